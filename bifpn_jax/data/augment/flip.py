"""Mirroring an image left to right."""

import cv2
import numpy as np

from bifpn_jax.data.augment.augmentation import Example


def flip(example: Example, rng: np.random.Generator, *, probability: float = 0.5) -> Example:
    """Mirror an image with its boxes left to right at random.

    Args:
        example: the image.
        rng: one number is drawn, whatever the probability.
        probability: how often the image is mirrored, from 0 to 1.
    """
    return mirrored(example) if rng.random() < probability else example


def mirrored(example: Example) -> Example:
    """Mirror an image with its boxes left to right."""
    width = np.float32(example.image.shape[1])
    y0, x0, y1, x1 = example.boxes.T
    boxes = np.stack([y0, width - x1, y1, width - x0], axis=1)
    return example._replace(image=cv2.flip(example.image, 1), boxes=boxes)
