"""Checks that the boxes of a file are [x, y, width, height] in pixels, as in COCO.

Other tools write corners, centres, or numbers relative to the image. Misread, such boxes train a
model on nonsense. A single box does not reveal it, but all boxes of a file together do.
"""

from pathlib import Path

import numpy as np

from bifpn_jax.errors import UserError

OVERHANG = 2.0  # pixels, see coco_objects
_NEARLY_ALL = 0.95  # share of the boxes; a few may have other faults
_ROUNDING = 1e-3  # of relative numbers
# Relative numbers lie within the first pixel, but so do boxes in images of a few pixels.
_FEW_PIXELS = 8
# Boxes that could be skipped or clipped are refused only if at least this many, and this share of
# them, lie far outside.
_LEAST_FAR, _SHARE_FAR = 3, 0.2
_FAR = 0.1  # of the image's side
# Boxes at the left and top of images would lie outside if they were centres, and few datasets have
# no such boxes. So a smaller share of boxes outside as they are is enough.
_SHARE_OF_CENTRES, _ALL_BUT_A_FEW = 0.1, 0.99
_PERCENT_BOXES, _PERCENT_SIDE, _PERCENT_REACH = 10, 200, 80  # boxes, pixels, of 100

_MULTIPLY = "multiply x and width by the image's width, y and height by its height"


def check_layout(path: Path, xywh: np.ndarray, hw: np.ndarray) -> None:
    """Refuse boxes that are nearly all relative to the image, or nearly all corners.

    Args:
        path: the file, for the message.
        xywh: [T, 4] float64, four numbers a box, as in the file.
        hw: [T, 2] float64, height and width of their images, pixels.
    """
    known = np.isfinite(xywh).all(axis=1)
    xywh, hw = xywh[known], hw[known]
    if (relative := _relative_layout(xywh, hw)) is not None:
        raise UserError(
            f"{path}: nearly all of its {len(xywh)} boxes lie within 0..1, such as "
            f"{xywh[0].tolist()}, so they look relative to the size of the image, as {relative}; "
            "give pixels"
        )
    far = _overhang(xywh, hw) > np.maximum(OVERHANG, _FAR * hw.max(axis=1, initial=0))
    if far.sum() >= max(_LEAST_FAR, _SHARE_FAR * len(far)) and (found := corners(xywh, hw)):
        raise UserError(
            f"{path}: {far.sum()} of its {len(far)} boxes reach far outside of their image as "
            f"[x, y, width, height], such as {xywh[far][0].tolist()}, and nearly all look like "
            f"{found}; give [x0, y0, x1 - x0, y1 - y0]"
        )
    out = _overhang(xywh, hw) > OVERHANG
    if out.sum() >= max(_LEAST_FAR, _SHARE_OF_CENTRES * len(out)) and are_centres(xywh, hw):
        raise UserError(
            f"{path}: {out.sum()} of its {len(out)} boxes reach outside of their image as "
            f"[x, y, width, height], such as {xywh[out][0].tolist()}, and all look like "
            "[x and y of the centre, width, height]; subtract half of width and height from x and y"
        )


def corners(xywh: np.ndarray, hw: np.ndarray) -> str:
    """Return the order of corners in which nearly all boxes are valid, "" if there is none.

    In square images, both orders are valid.
    """
    known = np.isfinite(xywh).all(axis=1)
    xywh, hw = xywh[known], hw[known]
    orders = {"[x0, y0, x1, y1]": [0, 1, 2, 3], "[y0, x0, y1, x1]": [1, 0, 3, 2]}
    good = [
        name
        for name, order in orders.items()
        if _share_of_corners(xywh[:, order], hw) >= _NEARLY_ALL
    ]
    return " or ".join(good)


def are_centres(xywh: np.ndarray, hw: np.ndarray) -> bool:
    """Whether all but a few boxes lie in their images if x and y are taken as their centres."""
    known = np.isfinite(xywh).all(axis=1) & (xywh[:, 2:] > 0).all(axis=1)
    centres, half = xywh[known, :2], xywh[known, 2:] / 2
    inside = (centres - half >= -OVERHANG) & (centres + half <= hw[known, ::-1] + OVERHANG)
    return bool(known.any()) and _share(inside) >= _ALL_BUT_A_FEW


def layout_remarks(xywh: np.ndarray, hw: np.ndarray) -> list[str]:
    """Return remarks about boxes [T, 4] in images [T, 2] that are odd but may be intended."""
    if len(xywh) < _PERCENT_BOXES or np.median(hw.min(axis=1)) < _PERCENT_SIDE:
        return []
    limit = 100 + _ROUNDING * 100
    start, size = xywh[:, :2], xywh[:, 2:]
    in_percent = (xywh <= limit).all() and any(
        (ends <= limit).all() and (ends.max(axis=0) > _PERCENT_REACH).all()
        for ends in (start + size, start + size / 2, size)  # corner and size, centre, corners
    )
    return (
        [
            "all boxes lie within the first 100 pixels of their image, as if they were in percent "
            f"of its size (if so, divide by 100 and {_MULTIPLY})"
        ]
        if in_percent
        else []
    )


def _relative_layout(xywh: np.ndarray, hw: np.ndarray) -> str | None:
    """Return the layout of relative boxes and how to fix it; None if they are not relative."""
    large = (hw.min(axis=1) > _FEW_PIXELS) & (xywh[:, 2:] > 0).all(axis=1)
    if not large.any():
        return None
    boxes = xywh[large]
    low, high = -_ROUNDING, 1 + _ROUNDING
    if ((boxes >= low) & (boxes <= high)).all(axis=1).mean() < _NEARLY_ALL:
        return None
    start, size = boxes[:, :2], boxes[:, 2:]
    if _share(start + size <= high) >= _NEARLY_ALL:
        return f"[x, y, width, height] ({_MULTIPLY})"
    if _share((start - size / 2 >= low) & (start + size / 2 <= high)) >= _NEARLY_ALL:
        return (
            "YOLO's [x and y of the centre, width, height] "
            f"(subtract half of width and height from x and y, then {_MULTIPLY})"
        )
    return "[x0, y0, x1, y1] or a mixture (find out what they are and convert them)"


def _share(holds: np.ndarray) -> float:
    return holds.all(axis=1).mean()


def _overhang(xywh: np.ndarray, hw: np.ndarray) -> np.ndarray:
    """Return by how many pixels each box extends beyond its image: [T]."""
    with np.errstate(over="ignore"):
        ends = xywh[:, :2] + xywh[:, 2:]
    return np.maximum(-xywh[:, :2], ends - hw[:, ::-1]).max(axis=1, initial=0)


def _share_of_corners(xyxy: np.ndarray, hw: np.ndarray) -> float:
    """Return the share of boxes that have an area and lie in their image as [x0, y0, x1, y1]."""
    if not len(xyxy):
        return 0.0
    start, end = xyxy[:, :2], xyxy[:, 2:]
    return _share((start >= -OVERHANG) & (end > start) & (end <= hw[:, ::-1] + OVERHANG))
