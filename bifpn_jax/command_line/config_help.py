"""The output of ``--help_config``: every field of a config with its meaning and allowed values."""

import shlex
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from bifpn_jax.recipe.field_descriptions import FIELDS, GROUPS, RECORDED, field_of
from bifpn_jax.recipe.fields import KINDS, Field, flat_fields


def config_help(config: ConfigDict, title: str, width: int = 80) -> str:
    """Return the help text for a terminal.

    Args:
        config: the config whose fields and values are shown.
        title: what the text calls it.
        width: the width of the terminal in characters.
    """
    lines = [f"Fields of {title} with their values. Each is set as it is written here."]
    for heading, fields in _grouped(dict(flat_fields(config))):
        lines += ["", f"{heading}:"]
        for name, value in fields.items():
            text = f"{field_of(name).meaning} {values_of(field_of(name), value)}".strip()
            indent = " " * 6
            lines.append(f"  --config.{name}={_word(value)}")
            lines += textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)
    return "\n".join(lines)


def values_of(field: Field, value: Any) -> str:
    """Return a sentence about the allowed values, from the description and the type of a value.

    It is "" for free text and for fields that are not meant to be set.
    """
    takes = field.takes
    if field.choices:
        *others, last = [choice or "nothing" for choice in field.choices]
        takes = f"{', '.join(others)} or {last}"
    elif not takes and not isinstance(value, str) and field is not RECORDED:
        comma = "," if field.limits.startswith("at least") else ""
        takes = f"{KINDS.get(type(value), type(value).__name__)}{comma} {field.limits}".strip()
    return f"Takes {takes}." if takes else ""


def _grouped(fields: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (heading, fields) of every group, those without a description last."""
    groups: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
    order = {name: place for place, name in enumerate(FIELDS)}
    for name, value in sorted(fields.items(), key=lambda item: order.get(item[0], len(order))):
        groups.setdefault(name.rpartition(".")[0] and name.split(".")[0], {})[name] = value
    for group, own in groups.items():
        if own:
            yield GROUPS.get(group, group), own


def _word(value: Any) -> str:
    """Return a value as a word of a command line."""
    text = value if isinstance(value, str) else repr(value)
    return shlex.quote(text) if text else ""
