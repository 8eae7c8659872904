"""Decodes JPEG files, treating libjpeg's warnings about damaged data as errors.

OpenCV and Pillow decode a JPEG with broken compressed data to grey or shifted bands. simplejpeg
uses the same libjpeg-turbo, returns the same pixels as fast, and reports the damage.
"""

import re

import cv2
import numpy as np
import simplejpeg

from bifpn_jax.data.images.image_header import (
    QUARTER_TURNS,
    START_OF_FRAME,
    START_OF_SCAN,
    jpeg_segments,
    read_jpeg_header,
)

# Warnings that good photographs give too: odd headers, and bytes after the last pixel.
_OF_THE_HEADER = ("Warning: unknown JFIF revision", "Unknown Adobe color transform")
_OF_THE_SCAN = "Invalid SOS parameters for sequential JPEG"
_EXTRANEOUS = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
_UNKNOWN_SAMPLING = "Could not determine subsampling level"
_FEW = 4  # bytes that encoders may leave before the end marker; after damage, more are left

_TABLES = frozenset({0xDB, 0xC4, 0xDD, 0xCC})  # DQT, DHT, DRI, DAC
_APP0, _APP14, _END = 0xE0, 0xEE, 0xD9

# EXIF orientation -> cv2.flip code that makes it upright, after a transposition of sideways images.
_FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}


def decode_jpeg(encoded: bytes) -> np.ndarray:
    """Decode a JPEG file to [H, W, 3] uint8 RGB, EXIF rotation applied.

    Raises:
        ValueError: it is damaged; the message is libjpeg's.
    """
    try:
        image = _decode(encoded)
    except ValueError as error:
        image = _decode_despite(str(error), encoded)
    return _turned(image, read_jpeg_header(encoded).orientation)


def _decode(encoded: bytes, strict: bool = True) -> np.ndarray:
    return simplejpeg.decode_jpeg(encoded, "RGB", fastdct=False, fastupsample=False, strict=strict)


def _decode_despite(warning: str, encoded: bytes) -> np.ndarray:
    """Decode a file despite a warning, if the warning is harmless."""
    encoded = _with_plain_header(encoded)
    if warning.startswith(_OF_THE_HEADER) or _EXTRANEOUS.fullmatch(warning):
        # Only the first warning is reported; with the plain header, the next one would show.
        try:
            return _decode(encoded)
        except ValueError as error:
            warning = str(error)
    if _UNKNOWN_SAMPLING in warning:
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
        if image is not None:
            return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    found = _EXTRANEOUS.fullmatch(warning)
    if warning == _OF_THE_SCAN or (
        found and _is_padding(encoded, int(found[1]), int(found[2], 16))
    ):
        return _decode(encoded, strict=False)
    raise ValueError(warning)


def _is_padding(encoded: bytes, count: int, marker: int) -> bool:
    """Whether leftover bytes are harmless: very few, or all of one value."""
    end = encoded.rfind(b"\xff\xd9")
    is_one_value = len(set(encoded[max(0, end - count) : end])) == 1
    return marker == _END and (count <= _FEW or is_one_value)


def _with_plain_header(encoded: bytes) -> bytes:
    """Return the file with only what decoding needs before its scan, in the usual form."""
    kept, components = [b"\xff\xd8"], 3
    for marker, start, end in jpeg_segments(encoded):
        segment = encoded[start:end]
        if marker == START_OF_SCAN:
            return b"".join(kept) + encoded[start:]
        if marker in START_OF_FRAME:
            components = segment[9] if len(segment) > 9 else components
        elif marker == _APP14 and segment[4:9] == b"Adobe" and len(segment) > 15:
            if segment[15] > 2:  # unknown values, replaced as libjpeg reads them
                segment = segment[:15] + (b"\2" if components == 4 else b"\1") + segment[16:]
        elif marker == _APP0 and segment[4:9] == b"JFIF\0" and len(segment) > 15:
            segment = segment[:9] + b"\1\1" + segment[11:]
        elif marker not in _TABLES:
            continue
        kept.append(segment)
    return encoded


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """Return an image made upright according to its EXIF orientation."""
    if orientation in QUARTER_TURNS:
        image = cv2.transpose(image)
    flip = _FLIPS.get(orientation)
    return image if flip is None else cv2.flip(image, flip)
