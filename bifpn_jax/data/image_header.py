"""What the bytes of an image file tell without decoding it: its size, and whether it is whole.

A decode costs milliseconds and this costs microseconds, so that a whole dataset can be checked
before training starts. JPEG and PNG only; of any other format the answer is "not known".
"""

import struct

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_END_OF_JPEG, _END_OF_PNG = b"\xff\xd9", b"IEND\xaeB`\x82"
# Start-of-frame markers: all of C0..CF but DHT, JPG and DAC.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def image_hw(encoded: bytes) -> tuple[int, int] | None:
    """Return height and width after EXIF rotation, or None where the bytes do not tell.

    Args:
      encoded: the file, or the first kilobytes of it.
    """
    if encoded.startswith(_JPEG):
        hw, orientation, _ = _read_jpeg_header(encoded)
    elif encoded.startswith(_PNG) and len(encoded) >= 24:
        width, height = struct.unpack_from(">II", encoded, 16)
        hw, orientation = (height, width), _png_orientation(encoded)
    else:
        return None
    if hw is None or 0 in hw:
        return None
    return hw[::-1] if orientation in _QUARTER_TURNS else hw


def is_truncated(encoded: bytes) -> bool:
    """Whether a JPEG or PNG file stops before its end marker; False for any other format.

    Bytes after the end marker are allowed: cameras and editors append to good files.
    """
    if encoded.startswith(_JPEG):
        # An EXIF thumbnail is a JPEG with an end marker of its own, so only the scan counts.
        *_, scan = _read_jpeg_header(encoded)
        return scan is None or encoded.rfind(_END_OF_JPEG, scan) < 0
    if encoded.startswith(_PNG):
        return encoded.rfind(_END_OF_PNG) < 0
    return False


def ends_whole(tail: bytes) -> bool:
    """Whether the last bytes of a file are the end of a JPEG or PNG file, nothing appended."""
    return tail.endswith((_END_OF_JPEG, _END_OF_PNG))


def _read_jpeg_header(data: bytes) -> tuple[tuple[int, int] | None, int, int | None]:
    """Return (height, width), the EXIF orientation and where the compressed scan begins."""
    hw, orientation, position = None, 1, 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        segment = data[position + 4 : position + 2 + length]
        if marker in _START_OF_FRAME and len(segment) >= 5:
            hw = struct.unpack_from(">HH", segment, 1)
        elif marker == 0xE1 and segment.startswith(b"Exif\x00\x00"):
            orientation = _tiff_orientation(segment[6:])
        elif marker == 0xDA:
            return hw, orientation, position + 2 + length
        position += 2 + length
    return hw, orientation, None


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
