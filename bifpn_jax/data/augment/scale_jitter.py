"""Scaling an image at random: the published augmentation."""

import numpy as np

from bifpn_jax.data.augment.augmentation import Example, Placing

SCALES = (0.1, 2.0)


def scale_jitter(
    example: Example, rng: np.random.Generator, *, scales: tuple[float, float] = SCALES
) -> Example:
    """Place an image at a random scale; of one that is larger than the frame, a random part.

    Args:
        example: the image.
        rng: gives three numbers, whatever happens.
        scales: lowest and highest scale relative to the frame.
    """
    return example._replace(placing=Placing(rng.uniform(*scales), tuple(rng.random(2).tolist())))
