"""Reads the size of an image file, and whether the file is complete, without decoding it.

Decoding takes milliseconds and this takes microseconds, so a whole dataset can be checked before
training starts. JPEG and PNG only; for any other format the answer is "unknown".
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_END_OF_JPEG, _END_OF_PNG = b"\xff\xd9", b"IEND\xaeB`\x82"
START_OF_SCAN = 0xDA
# Start-of-frame markers: all of C0..CF except DHT, JPG and DAC.
START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def image_hw(encoded: bytes) -> tuple[int, int] | None:
    """Return height and width after EXIF rotation, or None if the bytes do not contain them.

    Args:
        encoded: the file, or its first kilobytes.
    """
    if encoded.startswith(_JPEG):
        hw, _, orientation, _ = read_jpeg_header(encoded)
    elif encoded.startswith(_PNG) and len(encoded) >= 24:
        width, height = struct.unpack_from(">II", encoded, 16)
        hw, orientation = (height, width), _png_orientation(encoded)
    else:
        return None
    if hw is None or 0 in hw:
        return None
    return hw[::-1] if orientation in QUARTER_TURNS else hw


def is_turned(encoded: bytes) -> bool:
    """Whether EXIF asks for a JPEG or PNG to be rotated or mirrored; False for other formats."""
    if encoded.startswith(_JPEG):
        return read_jpeg_header(encoded).orientation != 1
    return encoded.startswith(_PNG) and _png_orientation(encoded) != 1


def is_truncated(encoded: bytes) -> bool:
    """Whether a JPEG or PNG file stops before its end marker; False for any other format.

    Bytes after the end marker are allowed: cameras and editors append to good files.
    """
    if encoded.startswith(_JPEG):
        # An EXIF thumbnail is a JPEG with its own end marker, so only the scan counts.
        scan = read_jpeg_header(encoded).scan
        return scan is None or encoded.rfind(_END_OF_JPEG, scan) < 0
    if encoded.startswith(_PNG):
        return encoded.rfind(_END_OF_PNG) < 0
    return False


def ends_whole(tail: bytes) -> bool:
    """Whether the last bytes of a file are the end of a JPEG or PNG file, with nothing appended."""
    return tail.endswith((_END_OF_JPEG, _END_OF_PNG))


class JpegHeader(NamedTuple):
    """The header of a JPEG file, before the compressed scan.

    Attributes:
        hw: height and width before EXIF rotation, None if the bytes end before them.
        components: 1 grey, 3 colour, 4 CMYK; 0 if the size is unknown.
        orientation: the EXIF orientation, 1 to 8.
        scan: where the compressed data begins, None if the bytes end before it.
    """

    hw: tuple[int, int] | None
    components: int
    orientation: int
    scan: int | None


def read_jpeg_header(data: bytes) -> JpegHeader:
    """Read the header of a JPEG file, from all of it or its first kilobytes."""
    hw, components, orientation = None, 0, None
    for marker, start, end in jpeg_segments(data):
        if marker in START_OF_FRAME and end - start >= 10 and start + 10 <= len(data):
            *hw, components = struct.unpack_from(">HHB", data, start + 5)
            hw = tuple(hw)
        elif marker == 0xE1 and data.startswith(b"Exif\0\0", start + 4):
            if orientation is None:  # if there are several, the first counts
                orientation = _tiff_orientation(data[start + 10 : end])
        elif marker == START_OF_SCAN:
            return JpegHeader(hw, components, orientation or 1, end)
    return JpegHeader(hw, components, orientation or 1, None)


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of a JPEG's segments, up to the header of its first scan.

    Stray bytes between segments are skipped, as in decoders.
    """
    position = 2
    while (position := data.find(b"\xff", position)) >= 0 and position + 4 <= len(data):
        marker = data[position + 1]
        if marker in (0, 0xFF):  # a stuffed or a fill byte
            position += 1
            continue
        end = position + 2 + struct.unpack_from(">H", data, position + 2)[0]
        yield marker, position, end
        if marker == START_OF_SCAN:
            return
        position = max(end, position + 2)


def _png_orientation(data: bytes) -> int:
    position = 8
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"eXIf":
            return _tiff_orientation(data[position + 8 : position + 8 + length])
        position += 12 + length
    return 1


def _tiff_orientation(tiff: bytes) -> int:
    """Return the orientation tag (0x0112) of an EXIF block's first directory, 1 if it has none."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return 1
    (directory,) = struct.unpack_from(order + "I", tiff, 4)
    if directory + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(order + "H", tiff, directory)
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        if entry + 12 > len(tiff):
            break
        tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, entry)
        if tag == 0x0112:
            return value
    return 1
