"""Rotated boxes in COCO files as exported by CVAT: an upright box, and an angle in the attributes.

``bbox`` is the rectangle before it is rotated about its centre by ``attributes["rotation"]``
degrees, so the box as it stands would be in the wrong place.
"""

from typing import Any

import numpy as np


def read_rotation(attributes: Any) -> float:
    """Return the degrees by which a box is rotated about its centre, as exported by CVAT.

    An attribute of this name that is not a number has some other meaning and is ignored.
    """
    rotation = attributes.get("rotation") if isinstance(attributes, dict) else None
    is_number = type(rotation) in (int, float) and abs(rotation) < 1e6
    return float(rotation) if is_number else 0.0


def enclose_rotated(xywh: np.ndarray, degrees: np.ndarray, hw: np.ndarray) -> np.ndarray:
    """Replace every rotated box by the upright box around it, clipped to the image.

    Returns:
        [T] bool, which boxes were rotated.
    """
    is_box = np.isfinite(xywh).all(axis=1) & (xywh[:, 2:] > 0).all(axis=1)
    rotated = is_box & (degrees.reshape(-1) % 180 != 0)
    angle = np.deg2rad(degrees[rotated])[:, None]
    cos, sin = np.abs(np.cos(angle)), np.abs(np.sin(angle))
    size = xywh[rotated, 2:]
    enclosing = size * cos + size[:, ::-1] * sin
    start = xywh[rotated, :2] + (size - enclosing) / 2
    limits = hw[rotated, ::-1]
    low, high = np.clip(start, 0, limits), np.clip(start + enclosing, 0, limits)
    is_inside = (high > low).all(axis=1, keepdims=True)  # others stay and are reported later
    xywh[rotated] = np.where(is_inside, np.hstack([low, high - low]), np.hstack([start, enclosing]))
    return rotated


def rotation_remarks(rotated: np.ndarray) -> list[str]:
    """Return a clause about the number of rotated boxes in a file; nothing if there are none."""
    count = int(rotated.sum())
    return [f"rotated boxes taken as the upright box around them: {count}"] if count else []
