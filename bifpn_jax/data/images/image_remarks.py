"""Remarks about parts of image files that the network does not see, added up over a dataset."""

import io
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from bifpn_jax.data.images.image_header import is_turned, read_jpeg_header
from bifpn_jax.data.images.png import kinds_before_pixels
from bifpn_jax.data.images.tiff import SIGNATURES as TIFF
from bifpn_jax.data.images.tiff import open_tiff

ALPHA = "images with an alpha channel or a transparent colour, which is not used"
BANDS = "images of more than three bands, of which the first three are used"
TURNED = "images turned or mirrored as their EXIF tag says (boxes must fit the turned picture)"
CMYK = "CMYK images, turned to RGB without a colour profile"
PAGES = "images of several pages or frames, of which the first is used"
LOW_BITS = (
    "images of 16 bits that use the lowest 12 at most, so that they are nearly black (scale their "
    "values up to 65535 if they are not meant to be)"
)

_JPEG, _PNG, _GIF = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", (b"GIF87a", b"GIF89a")
_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_NEARLY_BLACK = 16  # the lowest 12 of 16 bits, in 8 bits


def header_remarks(encoded: bytes) -> list[str] | None:
    """Return remarks about a JPEG or PNG file, None if its header alone is not enough.

    Args:
        encoded: the file, or its first kilobytes.
    """
    if encoded.startswith(_JPEG):
        components = read_jpeg_header(encoded).components
        if components == 0:
            return None
        return ([CMYK] if components == 4 else []) + _turned(encoded)
    if not encoded.startswith(_PNG) or len(encoded) < 26 or encoded[24] == 16:
        return None
    kinds = kinds_before_pixels(encoded)
    return None if kinds is None else _png_remarks(encoded[25], kinds) + _turned(encoded)


def image_remarks(encoded: bytes, image: np.ndarray) -> list[str]:
    """Return remarks about an image file.

    Args:
        encoded: the whole file.
        image: [H, W, 3] uint8, the decoded image.
    """
    if encoded.startswith(_JPEG):
        return header_remarks(encoded) or []
    if encoded.startswith(_PNG):
        kinds = kinds_before_pixels(encoded) or set()
        remarks = _png_remarks(encoded[25], kinds) + _turned(encoded)
        return remarks + _low_bits(encoded[24], image)
    page = _open(encoded)
    if page is None:
        return []
    is_tiff = encoded.startswith(TIFF)
    found = []
    if page.mode == "CMYK":
        found.append(CMYK)
    elif is_tiff and page.tag_v2.get(277, 1) > 3 and not _says_alpha(page.tag_v2):
        found.append(BANDS)
    elif page.mode in _ALPHA_MODES or "transparency" in page.info:
        found.append(ALPHA)
    if is_tiff:
        found += _low_bits(page.tag_v2.get(258, (8,))[0], image)
    return found + ([PAGES] if _count_pages(page) > 1 else [])


def add_up(found: Iterable[tuple[str, Collection[str]]]) -> list[str]:
    """Return one clause for each kind of remark, with a count and the first file.

    Args:
        found: file names, and the remarks about each.
    """
    files: dict[str, list[str]] = {}
    for name, remarks in found:
        for remark in remarks:
            files.setdefault(remark, []).append(name)
    return [f"{remark}: {len(names)}, such as {names[0]}" for remark, names in files.items()]


def _png_remarks(colour_type: int, kinds: Collection[bytes]) -> list[str]:
    has_alpha = colour_type in (4, 6) or b"tRNS" in kinds
    return ([PAGES] if b"acTL" in kinds else []) + ([ALPHA] if has_alpha else [])


def _turned(encoded: bytes) -> list[str]:
    return [TURNED] if is_turned(encoded) else []


def _low_bits(bits: int, image: np.ndarray) -> list[str]:
    nearly_black = bits > 8 and 0 < image.max(initial=0) <= _NEARLY_BLACK
    return [LOW_BITS] if nearly_black else []


def _says_alpha(tags: Any) -> bool:
    """Whether the first extra band of a TIFF is alpha, associated or not."""
    return bool({1, 2} & set(tags.get(338, ())[:1]))


def _count_pages(page: Any) -> int:
    try:
        return getattr(page, "n_frames", 1)
    except Exception:  # of many kinds, where a later page is damaged
        return 1


def _open(encoded: bytes) -> Any | None:
    """Return a GIF, WebP or TIFF as an undecoded Pillow image, None for anything else."""
    from PIL import GifImagePlugin, WebPImagePlugin

    if encoded.startswith(TIFF):
        return open_tiff(encoded)
    try:
        # Not by Image.open, which has a limit of its own.
        if encoded.startswith(_GIF):
            return GifImagePlugin.GifImageFile(io.BytesIO(encoded))
        if encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP":
            return WebPImagePlugin.WebPImageFile(io.BytesIO(encoded))
    except Exception:  # of many kinds, for a header that is odd
        return None
    return None
