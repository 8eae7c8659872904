"""The fields of a config: by their dotted names, "train.batch_size", and what each may be."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from bifpn_jax.named_parts import Parts

# What a value of a type is called.
KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "values in brackets",
}

# Fields that configs of earlier versions do not have, with the values that those runs had.
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


OWN_CODE = "code of your own, FILE.py:NAME"


class Field(NamedTuple):
    """A field of a config.

    Attributes:
        meaning: one sentence or two, with the unit.
        choices: all its values, if they can be counted.
        low, high: the lowest and the highest value, both allowed; None for no limit.
        above: a number that it must be greater than, instead of `low`.
        takes: what else there is to say of its values.
        parts: the parts that it names; a place of code, `FILE.py:NAME`, is one as well.
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
    """A field that names a part, or the place of one's own."""
    return Field(meaning, takes=f"{', '.join(parts)}, or {own}", parts=parts)


def with_added_fields(config: Mapping[str, Any]) -> ConfigDict:
    """The config that a run of this or an earlier version saved, with all of today's fields."""
    complete = ConfigDict(config)
    there = dict(flat_fields(complete))
    for name, value in ADDED_FIELDS.items():
        if name not in there:
            complete.update_from_flattened_dict({name: value})
    return complete


def fields_of(config: Mapping[str, Any], group: str) -> dict[str, str]:
    """Names of a group's fields in messages by those of the arguments that get their values."""
    return {name: f"config.{group}.{name}" for name in config[group]}


def flat_fields(
    config: ConfigDict | Mapping[str, Any], *, groups: bool = False, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every field.

    Args:
        config: or the same as JSON.
        groups: also yield the groups of fields, such as "train".
        prefix: what all names begin with.
    """
    for name, value in config.items():
        group = isinstance(value, ConfigDict | Mapping)
        if groups or not group:
            yield f"{prefix}{name}", value
        if group:
            yield from flat_fields(value, groups=groups, prefix=f"{prefix}{name}.")
