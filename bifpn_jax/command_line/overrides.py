"""Checks ``--config=FILE[:WORDS]`` and its ``--config.x.y=VALUE`` before they are applied.

Instead of a file, the name of a recipe can be given, ``--config=d1:debug``.

An error is one line that names the closest match. ml_collections' own messages name neither the
whole field nor the values that it takes.
"""

import difflib
import inspect
import re
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from bifpn_jax.command_line.command_help import asks_for_help
from bifpn_jax.errors import UserError
from bifpn_jax.recipe import by_name
from bifpn_jax.recipe.fields import KINDS, flat_fields

Fields = dict[str, Any]

_WHERE = f"the configs are in configs/, and by name there are {', '.join(by_name.RECIPES)}."


def check_overrides(words: Sequence[str]) -> Fields:
    """Check that the config has all fields that the command line overrides.

    Args:
        words: the command line.

    Returns:
        Every field of the config, "train.batch_size", and every group, "train", with its value;
        nothing if the command line asks for help.

    Raises:
        UserError: there is no such config file, or no such field.
    """
    if asks_for_help(words):
        return {}
    file, names = _split(words)
    if not file:
        bare = [word for word in words if re.match(r"[^-].*\.py(:|$)", word)]
        if bare:
            raise UserError(f"a config is needed; did you mean --config={bare[0]}?")
        raise UserError(f"a config is needed: --config=configs/d0.py, for instance; {_WHERE}")
    fields = dict(flat_fields(_load(file), groups=True))
    for name in names:
        if name == "model.name":
            raise UserError(
                "--config.model.name says which released model the other fields come from and "
                "changes none of them; take that model's file, such as configs/d4.py."
            )
        whole = name.partition("[")[0]
        if whole not in fields:
            hint = nearest_fields(whole, fields) or "--help_config lists them all."
            raise UserError(f"--config.{name}: there is no such field; {hint}")
        if whole != name:
            raise UserError(f"--config.{name}: set the whole, --config.{whole}={fields[whole]!r}.")
    return fields


def keep_last(words: Sequence[str]) -> list[str]:
    """Drop overrides that are repeated later; ml_collections would concatenate tuples."""
    names = [
        w.partition("=")[0] if re.match(r"--?config\..*=", w) else i for i, w in enumerate(words)
    ]
    return [word for i, word in enumerate(words) if names[i] not in names[i + 1 :]]


def explain_value(message: str, fields: Fields) -> str:
    """Return what is wrong with a value, from the message of the flag that refused it."""
    message = " ".join(message.split())
    found = re.match(r"flag (--config\.([^=]+)=.*?): ", message)
    if found is None or found[2] not in fields:
        return message.removeprefix("flag ")
    override, name = found.groups()
    value = fields[name]
    if isinstance(value, ConfigDict):
        inside = [field for field in fields if field.startswith(f"{name}.")]
        inside.sort(key=lambda field: field != f"{name}.name")
        one = f", such as --config.{inside[0]}" if inside else ""
        return f"{override}: this is a group of fields; set one of them{one}."
    return f"{override}: give {KINDS.get(type(value), type(value).__name__)}, such as {value!r}."


def with_recipe_files(words: Sequence[str]) -> list[str]:
    """Return the words with a recipe's name, ``--config=d1:debug``, replaced by its file."""
    value = config_file(words)
    place = _place(value)
    if place == value:
        return list(words)
    whole = [re.sub(rf"(--?config=){re.escape(value)}", lambda m: m[1] + place, w) for w in words]
    return [
        place if word == value and re.fullmatch("--?config", before) else word
        for before, word in zip(["", *whole], whole, strict=False)
    ]


def config_file(words: Sequence[str]) -> str:
    """Return the value of --config on a command line, FILE or FILE:WORDS; "" if there is none."""
    return _split(words)[0]


def _split(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the value of --config, and the names of the overrides."""
    file, names = "", []
    for i, word in enumerate(words):
        if word == "--":
            break
        name, equals, value = word.partition("=")
        if re.fullmatch("--?config", name):
            file = value if equals else "".join(words[i + 1 : i + 2])
        elif override := re.match(r"--?(?:no)?config\.(.+)", name):
            names.append(override[1])
    return file, names


def _place(value: str) -> str:
    """Return FILE:WORDS for a recipe's NAME:WORDS, and a file unchanged."""
    name = value.partition(":")[0]
    named = name in by_name.RECIPES and not Path(name).is_file()
    return f"{by_name.__file__}:{value}" if named else value


def _load(value: str) -> ConfigDict:
    file, colon, arg = _place(value).partition(":")
    path = Path(file)
    if not path.is_file():
        there = [p for p in sorted(Path("configs").rglob("*.py")) if p.stem != "__init__"]
        names = {name: name for name in by_name.RECIPES}
        stems = {other.stem: other.as_posix() for other in there} or names
        near = difflib.get_close_matches(path.stem, stems, 1, 0.5)
        hint = f"did you mean {stems[near[0]]}?" if near else _WHERE
        raise UserError(f"--config={value}: there is no file {file}; {hint}")
    get_config = runpy.run_path(file).get("get_config") if path.suffix == ".py" else None
    arguments = (arg,) if colon else ()
    try:
        inspect.signature(get_config).bind(*arguments)
    except TypeError:
        takes = f"get_config({'text' if colon else ''})"
        raise UserError(
            f"--config={value}: {file} is not a config: it has no {takes}; take one from configs/, "
            "such as configs/d0.py."
        ) from None
    return get_config(*arguments)


def nearest_fields(name: str, fields: Mapping[str, object]) -> str:
    """Return a hint at the field closest to an unknown name, or those with a similar ending."""
    ends = {field: field.rpartition(".")[2] for field in fields}
    end = name.rpartition(".")[2]
    near = difflib.get_close_matches(name, fields, 1, 0.85)
    if not near:
        alike = difflib.get_close_matches(end, set(ends.values()), 1, 0.7)
        near = [field for field in fields if [ends[field]] == alike][:3]
    if not near:
        return ""
    return f"did you mean {' or '.join(f'--config.{field}' for field in near)}?"
