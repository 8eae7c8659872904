"""The fields of a config by their dotted names, "train.batch_size"."""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

# Fields that configs of earlier versions do not have, with the values that those runs had.
ADDED_FIELDS: dict[str, Any] = {
    "train.accumulate": 1,
    "train.nonfinite": "error",
    "data.bad_images": "error",
    "model.batch_norm_group": 0,
    "init_settings": False,
}


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
