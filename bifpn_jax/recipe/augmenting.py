"""From the fields of a config to the augmentations of its training images."""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from bifpn_jax.data.augment.applying import Step, find_steps, split_settings


def augmentation_steps(config: ConfigDict) -> list[Step]:
    """The augmentations of a config's recipe, in their order.

    Raises:
        UserError: there is no such augmentation, or one of one's own does not work.
    """
    given = config.augment
    fields: dict[str, dict[str, Any]] = {
        # One that never mirrors takes its random number all the same: the others get theirs.
        "flip": {} if given.flip else {"probability": 0.0},
        "scale_jitter": {"scales": tuple(given.jitter)},
    }
    return find_steps(given.recipe, fields)


def augmentation_names(config: ConfigDict) -> Iterator[str]:
    """The names in a config's recipe, without settings."""
    return (split_settings(entry)[0] for entry in config.augment.recipe)
