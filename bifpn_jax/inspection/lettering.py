"""Writes text on an RGB array in DejaVu Sans, which comes with matplotlib.

Before version 5, OpenCV's own font has only ASCII. Sizes are in pixels per em.
"""

import functools
from pathlib import Path
from typing import Any

import numpy as np

# Of DejaVu Sans, in em: height of accents above the baseline, and height of a line of text.
ASCENT = 0.93
LINE = 1.25

_ELLIPSIS = "…"


def can_write(text: str) -> bool:
    """Whether the font has all characters of a text."""
    return all(ord(character) in _characters() for character in text)


def writable(text: str) -> str:
    """Return the text with a question mark for every character that the font lacks."""
    return "".join(c if ord(c) in _characters() else "?" for c in text)


def text_width(text: str, size: int) -> int:
    """Return the width of a line in pixels, rounded up."""
    return int(np.ceil(_font(size).getlength(writable(text))))


def line_height(size: int) -> int:
    """Return the height of a line in pixels, including the space between lines."""
    return int(np.ceil(LINE * size))


def shorten(text: str, size: int, width: int) -> str:
    """Shorten a text to ``width`` pixels by an ellipsis, keeping more of its end than its start.

    The ends of file names are what distinguishes them.
    """
    if text_width(text, size) <= width:
        return text
    for kept in range(len(text) - 1, 0, -1):
        begin = kept // 3
        shorter = text[:begin] + _ELLIPSIS + text[len(text) - (kept - begin) :]
        if text_width(shorter, size) <= width:
            return shorter
    return _ELLIPSIS


def wrap(text: str, size: int, width: int) -> list[str]:
    """Split text at spaces into lines of at most ``width`` pixels; longer words are shortened."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(shorten(word, size, width))
    return lines


def write_line(
    picture: np.ndarray,
    text: str,
    base_line: int,
    left: int,
    size: int,
    color: tuple[int, int, int],
) -> None:
    """Write a line onto a picture [H, W, 3] uint8; what does not fit is cut off.

    Args:
        picture: modified.
        text: one line; characters that the font lacks become question marks.
        base_line: row of the baseline.
        left: column of the first letter.
        size: pixels per em.
        color: RGB.
    """
    from PIL import Image, ImageDraw

    ink = Image.new("L", picture.shape[1::-1])
    place = (left, base_line)
    ImageDraw.Draw(ink).text(place, writable(text), fill=255, font=_font(size), anchor="ls")
    share = np.asarray(ink, np.float32)[..., None] / 255
    mixed = picture * (1 - share) + np.array(color, np.float32)[None, None] * share
    picture[:] = np.rint(mixed).astype(np.uint8)


@functools.cache
def _file() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@functools.cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.truetype(str(_file()), size)


@functools.cache
def _characters() -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(_file())).get_charmap())
