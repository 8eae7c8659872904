"""Intersection over union in float64, straight from the definition."""

import numpy as np


def area_by_hand(boxes: np.ndarray) -> np.ndarray:
    """Areas [N] of boxes [N, 4]."""
    sides = boxes[:, 2:].astype(np.float64) - boxes[:, :2]
    return np.where((sides > 0).all(axis=1), sides.prod(axis=1), 0.0)


def intersections_by_hand(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Area [N, M] that every box of a [N, 4] shares with every box of b [M, 4]."""
    a, b = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    return np.maximum(sides, 0).prod(axis=-1)


def iou_by_hand(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU [N, M]; 0 where there is no intersection.

    Of boxes whose corners are whole numbers this is exact enough to decide every tie: areas are
    whole, and two different quotients of them differ by more than they are rounded.
    """
    shared = intersections_by_hand(a, b)
    union = area_by_hand(a)[:, None] + area_by_hand(b)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
