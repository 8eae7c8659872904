"""Makes the augmentations of the training images from the fields of a config."""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from bifpn_jax.data.augment.applying import Step, find_steps, split_settings


def augmentation_steps(config: ConfigDict) -> list[Step]:
    """Return the augmentations of a config's recipe, in order.

    Raises:
        UserError: there is no such augmentation, or a custom one does not work.
    """
    given = config.augment
    fields: dict[str, dict[str, Any]] = {
        # If it never mirrors, it still draws a random number, so that those of the others stay.
        "flip": {} if given.flip else {"probability": 0.0},
        "scale_jitter": {"scales": tuple(given.jitter)},
    }
    return find_steps(given.recipe, fields)


def augmentation_names(config: ConfigDict) -> Iterator[str]:
    """Yield the names in a config's recipe, without settings."""
    return (split_settings(entry)[0] for entry in config.augment.recipe)
