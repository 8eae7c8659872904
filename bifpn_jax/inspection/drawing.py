"""Draws rectangles and captions on an RGB array with OpenCV: colours, sizes, caption placement."""

import colorsys
import math
from typing import NamedTuple

import cv2
import numpy as np

from bifpn_jax.inspection import lettering

Color = tuple[int, int, int]
Corners = tuple[int, int, int, int]  # first and last-plus-one pixel: top, left, bottom, right

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_DASH = 5  # length of a dash and of the gap after it, in widths of the line
_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
_TONES = ((0.80, 1.00), (1.00, 0.70), (0.45, 0.95))  # (saturation, value), alternating by class


class Style(NamedTuple):
    """Sizes in pixels, all derived from the size of the picture."""

    line: int
    text_scale: float
    text_weight: int
    ascent: int
    descent: int
    margin: int


class Caption(NamedTuple):
    """A text on a filled background: its position in the picture and its size, in pixels."""

    text: str
    color: Color
    height: int
    width: int
    top: int = 0
    left: int = 0


def class_color(label: int) -> Color:
    """Return the RGB colour of a class, which is fixed and far from those of adjacent classes."""
    hue = (0.35 + label * _GOLDEN_RATIO) % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, *_TONES[label % len(_TONES)])
    return round(255 * red), round(255 * green), round(255 * blue)


def style_for(picture: np.ndarray) -> Style:
    """Return lines and text in proportion to the picture [H, W, 3], but always readable."""
    side = math.sqrt(picture.shape[0] * picture.shape[1])
    scale = max(0.36, side / 1250)
    weight = max(1, round(1.2 * scale))
    (_, ascent), descent = cv2.getTextSize("Agy|", _FONT, scale, weight)
    return Style(
        line=max(1, round(side / 260)),
        text_scale=scale,
        text_weight=weight,
        ascent=ascent,
        descent=descent,
        margin=max(1, round(ascent / 6)),
    )


def pixels_of(box: np.ndarray, picture: np.ndarray) -> Corners | None:
    """Return the pixels that a box yxyx touches, at least one, or None if it is outside."""
    height, width = picture.shape[:2]
    if not np.isfinite(box).all():
        return None
    y0, x0, y1, x1 = np.asarray(box, np.float64).tolist()
    if y1 <= 0 or x1 <= 0 or y0 >= height or x0 >= width:
        return None
    top, left = max(0, math.floor(y0)), max(0, math.floor(x0))
    bottom, right = min(height, math.ceil(y1)), min(width, math.ceil(x1))
    return top, left, max(bottom, top + 1), max(right, left + 1)


def draw_frame(
    picture: np.ndarray, corners: Corners, color: Color, line: int, *, dashed: bool = False
) -> None:
    """Draw a rectangle on the border pixels of a box; thick lines are centred on the border."""
    if dashed:
        whole = picture.copy()
        draw_frame(whole, corners, color, line)
        height, width = picture.shape[:2]
        dash = _DASH * line
        on = np.add.outer(np.arange(height), np.arange(width)) // dash % 2 == 0
        picture[on] = whole[on]
        return
    last_y, last_x = picture.shape[0] - 1, picture.shape[1] - 1
    top, left, bottom, right = corners
    for inset in range(-(line // 2), (line + 1) // 2):
        y0, x0 = max(0, top + inset), max(0, left + inset)
        y1, x1 = min(last_y, bottom - 1 - inset), min(last_x, right - 1 - inset)
        if y0 <= y1 and x0 <= x1:
            cv2.rectangle(picture, (x0, y0), (x1, y1), color, 1)


def make_caption(text: str, color: Color, style: Style, picture: np.ndarray) -> Caption:
    """Make a caption that is not yet placed; text wider than the picture is shortened."""
    room = picture.shape[1] - 2 * style.margin
    while len(text) > 1 and _text_width(text, style) > room:
        text = text[:-1]
    height = style.ascent + style.descent + 2 * style.margin
    return Caption(text, color, height, _text_width(text, style) + 2 * style.margin)


def place_caption(
    caption: Caption, corners: Corners, placed: list[Caption], picture: np.ndarray
) -> tuple[Caption, float]:
    """Place a caption at its box, inside the picture, where earlier captions hide least of it.

    Returns:
        The caption, and the share of it that is hidden.
    """
    top, left, bottom, right = corners
    above, inside, below = top - caption.height, bottom - caption.height, bottom
    aligned_right = right - caption.width
    places = [
        (above, left),
        (above, aligned_right),
        (below, left),
        (below, aligned_right),
        (top, left),
        (inside, left),
    ]
    moved = [_keep_inside(caption._replace(top=y, left=x), picture) for y, x in places]
    hidden = [sum(_overlap(candidate, other) for other in placed) for candidate in moved]
    best = int(np.argmin(hidden))
    return moved[best], hidden[best] / (caption.height * caption.width)


def draw_caption(picture: np.ndarray, caption: Caption, style: Style) -> None:
    """Fill the background with the caption's colour and write on it in black or white."""
    rows = slice(caption.top, caption.top + caption.height)
    columns = slice(caption.left, caption.left + caption.width)
    patch = np.empty_like(picture[rows, columns])
    patch[:] = caption.color
    red, green, blue = caption.color
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    ink = _BLACK if luminance > 140 else _WHITE
    left, base_line = style.margin, style.margin + style.ascent
    if caption.text.isascii():
        cv2.putText(
            patch,
            caption.text,
            (left, base_line),
            _FONT,
            style.text_scale,
            ink,
            style.text_weight,
            cv2.LINE_AA,
        )
    else:
        lettering.write_line(patch, caption.text, base_line, left, _letter_size(style), ink)
    picture[rows, columns] = patch


def _letter_size(style: Style) -> int:
    """Return the font size at which accents stay inside a caption."""
    return round((style.ascent + style.margin) / lettering.ASCENT)


def _text_width(text: str, style: Style) -> int:
    if not text.isascii():
        return lettering.text_width(text, _letter_size(style))
    return cv2.getTextSize(text, _FONT, style.text_scale, style.text_weight)[0][0]


def _keep_inside(caption: Caption, picture: np.ndarray) -> Caption:
    top = min(max(caption.top, 0), max(0, picture.shape[0] - caption.height))
    left = min(max(caption.left, 0), max(0, picture.shape[1] - caption.width))
    return caption._replace(top=top, left=left)


def _overlap(a: Caption, b: Caption) -> int:
    rows = min(a.top + a.height, b.top + b.height) - max(a.top, b.top)
    columns = min(a.left + a.width, b.left + b.width) - max(a.left, b.left)
    return max(0, rows) * max(0, columns)
