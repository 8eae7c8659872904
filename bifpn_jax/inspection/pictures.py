"""Pictures of boxes and of matched anchors, as RGB uint8 arrays.

Boxes are yxyx in pixels of the image to draw on, with the edges of pixel i at i and i + 1. Line
width and text grow with the image; a small image is enlarged first (``zoom``), because text has a
minimum readable size.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from bifpn_jax.boxes import pairwise_iou
from bifpn_jax.errors import UserError
from bifpn_jax.inspection import drawing, lettering
from bifpn_jax.inspection.drawing import class_color

# A caption is skipped if earlier ones would hide more of it than this.
_HIDDEN_SHARE = 0.1
# Of a contact sheet, in pixels: gap between cells, and minimum width, so that texts fit.
_GAP, _LEAST_WIDTH = 4, 360
_TITLE_SIZE, _CAPTION_SIZE = 20, 17
_DARK, _TITLE_INK, _CAPTION_INK = 24, (255, 255, 255), (215, 215, 215)


def zoom_for(image: np.ndarray, side: int = 512) -> int:
    """Return the integer, at least 1, that scales an image's longer side closest to ``side``."""
    return max(1, round(side / max(image.shape[:2])))


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    scores: np.ndarray | None = None,
    *,
    captions: Sequence[str] | None = None,
    dashed: Sequence[bool] | None = None,
    zoom: int = 1,
) -> np.ndarray:
    """Draw boxes with class names, and scores if given.

    Args:
        image: [H, W, 3] uint8, RGB; not modified.
        boxes: [N, 4] yxyx in pixels; parts outside the image are cut off.
        labels: [N] int, from 0; rows with -1 are skipped.
        names: the name of each class.
        scores: [N] in [0, 1], shown with two digits.
        captions: N texts instead of name and score.
        dashed: [N], True for a dashed frame.
        zoom: integer factor to enlarge the image by; see ``zoom_for``.

    Returns:
        [zoom * H, zoom * W, 3] uint8. If boxes overlap, the first in the list is on top. Texts for
        which earlier ones leave no room are skipped.
    """
    picture = _enlarge(image, zoom)
    style = drawing.style_for(picture)
    visible = []
    for index, label in enumerate(np.asarray(labels).tolist()):
        corners = drawing.pixels_of(zoom * np.asarray(boxes[index]), picture)
        if label >= 0 and corners is not None:
            visible.append((index, corners, class_color(label)))
    for index, corners, color in reversed(visible):
        is_dashed = dashed is not None and bool(dashed[index])
        drawing.draw_frame(picture, corners, color, style.line, dashed=is_dashed)
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
    iou_threshold: float | None = None,
    zoom: int = 1,
) -> np.ndarray:
    """Draw ground-truth boxes with the anchors matched to them, one colour for each box.

    Args:
        image: [H, W, 3] uint8, RGB; shown darker. Not modified.
        anchors: [A, 4] yxyx in pixels.
        matched_box: [A] int, the row of ``boxes`` that an anchor is matched to, -1 for background.
        boxes: [N, 4] yxyx in pixels; rows without area (padding) are skipped.
        iou_threshold: if given, and no anchor of a box reaches it, the best IoU is written next to
            the number of anchors.
        zoom: integer factor to enlarge the image by.

    Returns:
        [zoom * H, zoom * W, 3] uint8: boxes with thick lines and the number of their anchors,
        anchors with thin ones.
    """
    anchors, boxes = np.asarray(anchors), np.asarray(boxes)
    matched_box = np.asarray(matched_box)
    dark = _enlarge(image // 2, zoom)
    overlay = dark.copy()
    positive = np.flatnonzero(matched_box >= 0)
    corners = np.rint(zoom * anchors[positive]).astype(int).tolist()
    for (top, left, bottom, right), box in zip(
        corners, matched_box[positive].tolist(), strict=True
    ):
        cv2.rectangle(overlay, (left, top), (right - 1, bottom - 1), class_color(box), 1)
    picture = cv2.addWeighted(dark, 0.4, overlay, 0.6, 0)

    has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    texts = [
        _count_text(box, anchors[matched_box == index], iou_threshold)
        for index, box in enumerate(boxes)
    ]
    numbers = np.where(has_area, np.arange(len(boxes)), -1)
    return draw_boxes(picture, zoom * boxes, numbers, (), captions=texts)


def _count_text(box: np.ndarray, matched: np.ndarray, iou_threshold: float | None) -> str:
    """Return the number of anchors of a box, and the best IoU if none reaches the threshold."""
    if iou_threshold is not None and len(matched):
        best = float(pairwise_iou(box[None], matched).max())
        if best < iou_threshold:
            # Truncated, not rounded, so that what is below the threshold reads as below it.
            return f"{len(matched)} (IoU {math.floor(100 * best) / 100:.2f})"
    return str(len(matched))


def contact_sheet(
    images: Sequence[np.ndarray],
    columns: int,
    *,
    cell: int | None = None,
    captions: Sequence[str] | None = None,
    title: str = "",
) -> np.ndarray:
    """Put images side by side on a dark sheet, row after row.

    Args:
        images: at least one [H, W, 3] uint8 image of any size.
        columns: images per row.
        cell: if given, images with a longer side than this are shrunk to it.
        captions: a text above each image, of one line or more; long lines are shortened.
        title: text above all images, over as many lines as necessary.

    Returns:
        One [H, W, 3] uint8 image.
    """
    fitted = [shrink(image, cell) for image in images]
    texts = [text.split("\n") for text in captions or [""] * len(fitted)]
    has_text = captions is not None or bool(title)
    line = lettering.line_height(_CAPTION_SIZE)
    text_height = max(map(len, texts)) * line if captions is not None else 0
    columns = min(columns, len(fitted))
    width = max(image.shape[1] for image in fitted)
    if has_text:
        width = max(width, math.ceil(_LEAST_WIDTH / columns), _LEAST_WIDTH // 2)
    sheet_width = columns * (width + _GAP) + _GAP
    height = max(image.shape[0] for image in fitted) + text_height + _GAP
    heading = lettering.wrap(title, _TITLE_SIZE, sheet_width - 4 * _GAP)
    title_line = lettering.line_height(_TITLE_SIZE)
    first_row = _GAP + (len(heading) * title_line + 2 * _GAP if heading else 0)
    rows = math.ceil(len(fitted) / columns)
    sheet = np.full((first_row + rows * height, sheet_width, 3), _DARK, np.uint8)
    for number, text in enumerate(heading):
        top = 2 * _GAP + number * title_line
        _write(sheet[top : top + title_line], text, _TITLE_SIZE, _TITLE_INK)
    for index, (image, lines) in enumerate(zip(fitted, texts, strict=True)):
        top = first_row + index // columns * height
        left = _GAP + index % columns * (width + _GAP)
        for number, text in enumerate(lines if text_height else ()):
            rest = lettering.shorten(text, _CAPTION_SIZE, width - 2 * _GAP)
            place = sheet[top + number * line : top + (number + 1) * line, left : left + width]
            _write(place, rest, _CAPTION_SIZE, _CAPTION_INK)
        top += text_height
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet


def shrink(image: np.ndarray, side: int | None) -> np.ndarray:
    """Shrink an image [H, W, 3] so that its longer side is at most ``side``, if given."""
    if side is None or max(image.shape[:2]) <= side:
        return image
    factor = side / max(image.shape[:2])
    height, width = (max(1, round(length * factor)) for length in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write an RGB image in the format of the file's suffix (png, jpg, …), creating its folder."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written = cv2.imwrite(str(path), image[..., ::-1])
    except (cv2.error, OSError):
        written = False
    if not written:
        raise UserError(f"cannot write the picture {path}; check the folder, and use .png or .jpg")


def _enlarge(image: np.ndarray, zoom: int) -> np.ndarray:
    """Return a contiguous copy with every pixel repeated ``zoom`` times in both directions."""
    return np.ascontiguousarray(image.repeat(zoom, axis=0).repeat(zoom, axis=1))


def _write(place: np.ndarray, text: str, size: int, ink: drawing.Color) -> None:
    """Write a line of text into a region of a sheet with the height of a line."""
    lettering.write_line(place, text, round(lettering.ASCENT * size), _GAP, size, ink)
