"""Pictures of boxes and of matched anchors, as RGB uint8 arrays.

Boxes are yxyx in pixels of the image that is drawn on, with the edges of pixel i at i and i + 1.
Line width and text grow with the image; a small image is enlarged first (``zoom``), since text has
a least readable size.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from bifpn_jax import drawing
from bifpn_jax.drawing import class_color
from bifpn_jax.errors import UserError

# A caption is left out when earlier ones would hide more of it than this.
_HIDDEN_SHARE = 0.1


def zoom_for(image: np.ndarray, side: int = 512) -> int:
    """The whole factor, at least 1, that brings the longer side of an image closest to ``side``."""
    return max(1, round(side / max(image.shape[:2])))


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    scores: np.ndarray | None = None,
    *,
    captions: Sequence[str] | None = None,
    zoom: int = 1,
) -> np.ndarray:
    """Draws boxes with class names, and scores if given.

    Args:
        image: [H, W, 3] uint8, RGB; not modified.
        boxes: [N, 4] yxyx in pixels; parts outside the image are cut off.
        labels: [N] int, from 0; rows with -1 are left out.
        names: the name of each class.
        scores: [N] in [0, 1], shown with two digits.
        captions: N texts in place of name and score.
        zoom: whole factor to enlarge the image by; see ``zoom_for``.

    Returns:
        [zoom * H, zoom * W, 3] uint8. Where boxes overlap, the first in the list lies on top; a
        text for which earlier ones leave no room is left out.
    """
    picture = _enlarge(image, zoom)
    style = drawing.style_for(picture)
    visible = []
    for index, label in enumerate(np.asarray(labels).tolist()):
        corners = drawing.pixels_of(zoom * np.asarray(boxes[index]), picture)
        if label >= 0 and corners is not None:
            visible.append((index, corners, class_color(label)))
    for _, corners, color in reversed(visible):
        drawing.draw_frame(picture, corners, color, style.line)
    placed: list[drawing.Caption] = []
    for index, corners, color in visible:
        if captions is not None:
            text = captions[index]
        else:
            text = names[labels[index]] + ("" if scores is None else f" {scores[index]:.2f}")
        caption = drawing.make_caption(text, color, style, picture)
        caption, hidden = drawing.place_caption(caption, corners, placed, picture)
        if hidden <= _HIDDEN_SHARE:
            placed.append(caption)
    for caption in reversed(placed):
        drawing.draw_caption(picture, caption, style)
    return picture


def draw_matches(
    image: np.ndarray,
    anchors: np.ndarray,
    matched_box: np.ndarray,
    boxes: np.ndarray,
    *,
    zoom: int = 1,
) -> np.ndarray:
    """Draws ground-truth boxes with the anchors matched to them, one colour for each box.

    Args:
        image: [H, W, 3] uint8, RGB; shown darker. Not modified.
        anchors: [A, 4] yxyx in pixels.
        matched_box: [A] int, the row of ``boxes`` that an anchor is matched to, -1 for background.
        boxes: [N, 4] yxyx in pixels; rows without area (padding) are left out.
        zoom: whole factor to enlarge the image by.

    Returns:
        [zoom * H, zoom * W, 3] uint8: boxes with thick lines and the number of their anchors,
        anchors with thin ones.
    """
    boxes, matched_box = np.asarray(boxes), np.asarray(matched_box)
    dark = _enlarge(image // 2, zoom)
    overlay = dark.copy()
    positive = np.flatnonzero(matched_box >= 0)
    corners = np.rint(zoom * np.asarray(anchors)[positive]).astype(int).tolist()
    for (top, left, bottom, right), box in zip(
        corners, matched_box[positive].tolist(), strict=True
    ):
        cv2.rectangle(overlay, (left, top), (right - 1, bottom - 1), class_color(box), 1)
    picture = cv2.addWeighted(dark, 0.4, overlay, 0.6, 0)

    has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    counts = [str(np.count_nonzero(matched_box == box)) for box in range(len(boxes))]
    numbers = np.where(has_area, np.arange(len(boxes)), -1)
    return draw_boxes(picture, zoom * boxes, numbers, (), captions=counts)


def contact_sheet(
    images: Sequence[np.ndarray], columns: int, *, cell: int | None = None
) -> np.ndarray:
    """Puts images side by side on a dark sheet, row after row.

    Args:
        images: each [H, W, 3] uint8, of any size; at least one.
        columns: images per row.
        cell: if given, images with a longer side than this are shrunk to it.

    Returns:
        One [H, W, 3] uint8 image.
    """
    gap = 4
    fitted = [_shrink(image, cell) for image in images]
    height = max(image.shape[0] for image in fitted) + gap
    width = max(image.shape[1] for image in fitted) + gap
    columns = min(columns, len(fitted))
    rows = math.ceil(len(fitted) / columns)
    sheet = np.full((rows * height + gap, columns * width + gap, 3), 24, np.uint8)
    for index, image in enumerate(fitted):
        top = gap + index // columns * height
        left = gap + index % columns * width
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Writes an RGB image in the format of the file's suffix (png, jpg, …), making its folder."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = cv2.imwrite(str(path), image[..., ::-1])
    except (cv2.error, OSError):
        written = False
    if not written:
        raise UserError(f"cannot write the picture {path}; check the folder, and use .png or .jpg")


def _enlarge(image: np.ndarray, zoom: int) -> np.ndarray:
    """A contiguous copy, every pixel repeated ``zoom`` times in both directions."""
    return np.ascontiguousarray(image.repeat(zoom, axis=0).repeat(zoom, axis=1))


def _shrink(image: np.ndarray, cell: int | None) -> np.ndarray:
    if cell is None or max(image.shape[:2]) <= cell:
        return image
    factor = cell / max(image.shape[:2])
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
