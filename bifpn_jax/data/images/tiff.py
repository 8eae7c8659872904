"""Decodes TIFF files according to their tags, with damage as an error.

For up to 8 bits, OpenCV uses a libtiff interface that multiplies colours by alpha and ignores
broken compressed data, so Pillow reads these files, as fast and with the same pixels. Pillow in
turn truncates 16 bits to 8.
"""

import io
import math
import zlib
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from bifpn_jax.data.images.jpeg import decode_jpeg

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SIDES = (256, 257)
_BITS, _COMPRESSION, _PHOTOMETRIC, _BANDS = 258, 259, 262, 277  # tags
_LARGEST, _EXTRA, _FORMAT = 281, 338, 339
_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES, _JPEG_TABLES = 273, 279, 324, 325, 347
_JPEG, _DEFLATE = 7, (8, 32946)  # compressions
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _ASSOCIATED, _UNSIGNED = 0, 1, 1, 1
# Modes that Pillow converts to RGB as OpenCV does.
_MODES = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK"})


def decode_tiff(encoded: bytes) -> tuple[np.ndarray | None, int]:
    """Decode the first page of a TIFF file.

    Returns:
        [H, W, 3] RGB, or None if it cannot be read, and the value of white in 16 bits.

    Raises:
        ValueError: the compressed data is damaged.
    """
    tags = _read_tags(encoded)
    bits, forms = _numbers(tags, _BITS, 1), _numbers(tags, _FORMAT, _UNSIGNED)
    if _odd_bands(tags):  # with 8 bits, OpenCV would take the first band for grey
        return None, 0
    if max(bits) <= 8 and set(forms) == {_UNSIGNED}:
        page = open_tiff(encoded)
        if page is not None and page.mode in _MODES:
            return _load(page), 255
    associated = _numbers(tags, _EXTRA, 0)[0] == _ASSOCIATED
    flags = cv2.IMREAD_UNCHANGED if associated else cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    if image is None or image.dtype not in (np.uint8, np.uint16):
        return image, 0
    if associated:
        if image.shape[2:] != (4,):  # for grey images, OpenCV returns no alpha to divide by
            return None, 0
        image = _without_alpha(image)
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if image.dtype != np.uint16:
        return image, 255
    white = _white(tags, image)
    is_inverted = _numbers(tags, _PHOTOMETRIC, 1)[0] == _WHITE_IS_ZERO
    return white - image if is_inverted else image, white


def tiff_size(encoded: bytes) -> tuple[int, int] | None:
    """Return width and height of the first page, None if its tags do not state them."""
    tags = _read_tags(encoded)
    width, height = (_numbers(tags, side, 0)[0] for side in _SIDES)
    return (width, height) if width and height else None


def odd_bands(encoded: bytes) -> int:
    """Return the number of bands of a TIFF file if they are neither grey nor colours, else 0."""
    return _odd_bands(_read_tags(encoded)) if encoded.startswith(SIGNATURES) else 0


def _odd_bands(tags: Mapping[int, Any]) -> int:
    count, photometric = _numbers(tags, _BANDS, 1)[0], _numbers(tags, _PHOTOMETRIC, 1)[0]
    is_grey = photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)
    return count if is_grey and count >= 3 and max(_numbers(tags, _BITS, 1)) <= 8 else 0


def open_tiff(encoded: bytes) -> Any | None:
    """Return the first page as an undecoded Pillow image, None if Pillow does not support it."""
    from PIL import TiffImagePlugin

    try:
        # Not by Image.open, which has a limit of its own.
        return TiffImagePlugin.TiffImageFile(io.BytesIO(encoded))
    except Exception:  # of many kinds, for a header that is odd or no header
        return None


def _read_tags(encoded: bytes) -> Mapping[int, Any]:
    """Return the tags of the first page, even of kinds that Pillow cannot decode."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    try:
        tags = ImageFileDirectory_v2(encoded[: 16 if b"+" in encoded[2:4] else 8])
        file = io.BytesIO(encoded)
        file.seek(tags.next)
        tags.load(file)
        return dict(tags)
    except Exception:  # of many kinds, for a header that is odd or no header
        return {}


def check_tiff(encoded: bytes) -> None:
    """Look for damage in compressed data that libtiff ignores; takes nearly as long as decoding.

    Raises:
        ValueError: the data is damaged.
    """
    tags = _read_tags(encoded)
    compression = _numbers(tags, _COMPRESSION, 1)[0]
    starts = _numbers(tags, _STRIPS, 0) if _STRIPS in tags else _numbers(tags, _TILES, 0)
    lengths = _numbers(tags, _STRIP_BYTES, 0) if _STRIPS in tags else _numbers(tags, _TILE_BYTES, 0)
    for start, length in zip(starts, lengths, strict=False):
        data = encoded[start : start + length]
        if compression in _DEFLATE:
            _check_deflate(data)
        elif compression == _JPEG and len(_numbers(tags, _BITS, 1)) != 2:
            tables = tags.get(_JPEG_TABLES, b"")
            decode_jpeg(tables[:-2] + data[2:] if tables else data)


def _check_deflate(data: bytes) -> None:
    inflate = zlib.decompressobj()
    try:
        while data and not inflate.eof:
            inflate.decompress(data, 2**24)
            data = inflate.unconsumed_tail
    except zlib.error as error:
        raise ValueError(str(error)) from None


def _load(page: Any) -> np.ndarray:
    from PIL import Image

    try:
        # Pillow checks its own limit, lower than ours, when it allocates the memory.
        page.im = Image.new(page.mode, tuple(page.tag_v2[side] for side in _SIDES)).im
        page.load()
    except Exception as error:  # mostly OSError, and others if the tags are damaged
        raise ValueError(str(error) or type(error).__name__) from None
    if page.mode == "La":
        page = page.convert("LA")
    return np.asarray(page.convert("RGB"))


def _numbers(tags: Mapping[int, Any], tag: int, default: int) -> tuple[int, ...]:
    """Return the values of a tag, or the default if they are missing or not integers."""
    value = tags.get(tag, default)
    values = value if isinstance(value, tuple) else (value,)
    return values if values and all(isinstance(v, int) for v in values) else (default,)


def _without_alpha(image: np.ndarray) -> np.ndarray:
    """Divide premultiplied colours by alpha: [H, W, 4] uint16 to [H, W, 3]."""
    colours, alpha = image[..., :-1].astype(np.float32), image[..., -1:].astype(np.float32)
    divided = np.minimum(colours * 65535 / np.maximum(alpha, 1), 65535)
    return np.rint(divided).astype(np.uint16)


def _white(tags: Mapping[int, Any], image: np.ndarray) -> int:
    """Return the value of white: 65535, or the file's largest value if that is 2^n - 1."""
    largest = max(_numbers(tags, _LARGEST, 65535))
    is_bits = largest >= 511 and math.log2(largest + 1).is_integer()
    return largest if is_bits and image.max(initial=0) <= largest else 65535
