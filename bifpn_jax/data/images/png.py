"""Decodes PNG files, checking their checksums first so that libpng prints no warnings."""

import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np

_FIRST = 8  # bytes of the signature


def decode_png(encoded: bytes) -> tuple[np.ndarray | None, int]:
    """Decode a PNG file.

    Returns:
        [H, W, 3] uint8 or uint16 RGB, or None if OpenCV cannot decode it, and the value of white.

    Raises:
        ValueError: a checksum is wrong.
    """
    significant, kept, changed = 16, [encoded[:_FIRST]], False
    for kind, start, end in png_chunks(encoded):
        data = memoryview(encoded)[start:end]
        is_critical = kind[:1].isupper()
        if is_critical and zlib.crc32(data[4:-4]) != int.from_bytes(data[-4:], "big"):
            raise ValueError(f"wrong checksum in chunk {kind.decode('latin-1')!r}")
        if kind == b"sBIT" and end - start > 12:
            significant = max(data[8:-4])
        if kind == b"iCCP":  # not applied, and odd ones make libpng print warnings
            changed = True
        else:
            kept.append(data)
    content = b"".join(kept) if changed else encoded
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if image is None:
        return None, 255
    white = _white(image, significant) if image.dtype == np.uint16 else 255
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), white


def png_chunks(encoded: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the complete chunks, up to IEND."""
    position = _FIRST
    while position + 12 <= len(encoded):
        length, kind = struct.unpack_from(">I4s", encoded, position)
        end = position + 12 + length
        if end > len(encoded):
            return
        yield kind, position, end
        if kind == b"IEND":
            return
        position = end


def kinds_before_pixels(head: bytes) -> set[bytes] | None:
    """Return the kinds of the chunks before the first IDAT, None if the bytes end before it."""
    kinds, position = set(), _FIRST
    while position + 8 <= len(head):
        length, kind = struct.unpack_from(">I4s", head, position)
        if kind == b"IDAT":
            return kinds
        kinds.add(kind)
        position += 12 + length
    return None


def _white(image: np.ndarray, significant: int) -> int:
    """Return the value of white in 16 bits: 65535, or less if fewer bits are significant.

    By the standard, samples with fewer bits are scaled to all 16, and sBIT says how many they had.
    Some writers state the bits but do not scale the samples. In scaled samples the lowest bits are
    only copies of the highest, which are zeros in dark images.
    """
    white = 2**significant - 1
    if not 8 < significant < 16 or image.max() > white:
        return 65535
    is_scaled = not (image & (2 ** (16 - significant) - 1)).any()
    return 65535 if is_scaled else white
