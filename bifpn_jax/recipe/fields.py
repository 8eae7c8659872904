"""The fields of a config: their dotted names, such as "train.batch_size", and allowed values."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from bifpn_jax.named_parts import Parts

# What messages call a value of each type.
KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "values in brackets",
}

# Fields that configs of earlier versions lack, with the values that those runs used.
ADDED_FIELDS: dict[str, Any] = {
    "train.accumulate": 1,
    "train.nonfinite": "error",
    "data.bad_images": "error",
    "model.batch_norm_group": 0,
    "init_settings": False,
    "model.norm": "batch_norm",
    "loss.class_loss": "focal",
    "loss.box_loss": "huber",
    "eval.metrics": (),
    "augment.recipe": ("flip", "scale_jitter"),
}


OWN_CODE = "your own code, FILE.py:NAME"


class Field(NamedTuple):
    """A field of a config.

    Attributes:
        meaning: one or two sentences, with the unit.
        choices: all allowed values, if the field is an enumeration.
        low: the lowest allowed value; None for no limit.
        high: the highest allowed value; None for no limit.
        above: a number that the value must be greater than, instead of `low`.
        takes: the allowed values in words, if neither a range nor choices.
        parts: the named parts to choose from; `FILE.py:NAME` is allowed as well.
    """

    meaning: str
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    above: float | None = None
    takes: str = ""
    parts: Parts | None = None

    @property
    def limits(self) -> str:
        """The range in words, "between 0 and 1"; "" for any number."""
        if self.above is not None:
            return f"greater than {self.above:g}"
        if self.low is None:
            return ""
        low = f"{self.low:,}" if isinstance(self.low, int) else f"{self.low:g}"
        if self.high is None:
            return f"at least {low}"
        high = f"{self.high:,}" if isinstance(self.high, int) else f"{self.high:g}"
        return f"between {low} and {high}"

    def allows(self, number: float) -> bool:
        """Whether a number is in the range."""
        return (
            (self.above is None or number > self.above)
            and (self.low is None or number >= self.low)
            and (self.high is None or number <= self.high)
        )


def part_field(meaning: str, parts: Parts, own: str = OWN_CODE) -> Field:
    """Return a field that names a part or gives the place of the user's own."""
    return Field(meaning, takes=f"{', '.join(parts)}, or {own}", parts=parts)


def with_added_fields(config: Mapping[str, Any]) -> ConfigDict:
    """Return a saved config of this or an earlier version, with all current fields."""
    complete = ConfigDict(config)
    there = dict(flat_fields(complete))
    for name, value in ADDED_FIELDS.items():
        if name not in there:
            complete.update_from_flattened_dict({name: value})
    return complete


def fields_of(config: Mapping[str, Any], group: str) -> dict[str, str]:
    """Map the names of a group's fields, which are argument names, to their names in messages."""
    return {name: f"config.{group}.{name}" for name in config[group]}


def flat_fields(
    config: ConfigDict | Mapping[str, Any], *, groups: bool = False, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, value) of every field.

    Args:
        config: the config, or its JSON form.
        groups: also yield the groups of fields, such as "train".
        prefix: prepended to all names.
    """
    for name, value in config.items():
        group = isinstance(value, ConfigDict | Mapping)
        if groups or not group:
            yield f"{prefix}{name}", value
        if group:
            yield from flat_fields(value, groups=groups, prefix=f"{prefix}{name}.")
