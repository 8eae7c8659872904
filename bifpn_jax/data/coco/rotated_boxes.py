"""Rotated boxes in COCO files, as CVAT exports them: upright, with an angle among the attributes.

``bbox`` is the rectangle before it was rotated about its centre, by ``attributes["rotation"]``
degrees; to read it as it stands would be to read the box of another place.
"""

from typing import Any

import numpy as np


def read_rotation(attributes: Any) -> float:
    """Return the degrees by which a box is rotated about its centre, as CVAT exports them.

    An attribute of this name that is no number is somebody's own.
    """
    rotation = attributes.get("rotation") if isinstance(attributes, dict) else None
    is_number = type(rotation) in (int, float) and abs(rotation) < 1e6
    return float(rotation) if is_number else 0.0


def enclose_rotated(xywh: np.ndarray, degrees: np.ndarray, hw: np.ndarray) -> np.ndarray:
    """Put the upright box around it, cut to the image, in the place of every rotated box.

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
    is_inside = (high > low).all(axis=1, keepdims=True)  # any other stays, for its fault to be told
    xywh[rotated] = np.where(is_inside, np.hstack([low, high - low]), np.hstack([start, enclosing]))
    return rotated


def rotation_remarks(rotated: np.ndarray) -> list[str]:
    """Return how many boxes of a file were rotated, in a clause; nothing if none was."""
    count = int(rotated.sum())
    return [f"rotated boxes taken as the upright box around them: {count}"] if count else []
