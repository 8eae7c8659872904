"""Random scaling of an image, as in the published augmentation."""

import numpy as np

from bifpn_jax.data.augment.augmentation import Example, Placing

SCALES = (0.1, 2.0)


def scale_jitter(
    example: Example, rng: np.random.Generator, *, scales: tuple[float, float] = SCALES
) -> Example:
    """Place an image at a random scale; if it is then larger than the frame, take a random crop.

    Args:
        example: the image.
        rng: three numbers are always drawn.
        scales: lowest and highest scale relative to the frame.
    """
    return example._replace(placing=Placing(rng.uniform(*scales), tuple(rng.random(2).tolist())))
