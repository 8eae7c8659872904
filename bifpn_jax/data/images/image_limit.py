"""The size that an image file claims in its header, read before a single pixel is decoded.

A few bytes can claim gigapixels. OpenCV itself refuses more than 2^30 pixels, which take 3 GiB in
8 bits, and 12 GiB if decoded with 32 bits per channel. The limit here is lower, with a message.
"""

import re
import struct

from bifpn_jax.data.images.image_header import image_hw
from bifpn_jax.data.images.tiff import SIGNATURES as TIFF
from bifpn_jax.data.images.tiff import tiff_size

# 0.8 GB decoded, nearly twice the pixels of the largest cameras. AVIF, whose header is not read
# here, has the same limit in its own library.
MAX_PIXELS = 2**28

_HEAD = 65536  # bytes that are searched for a text header
_NETPBM = re.compile(rb"P[1-6Ff]\s+(\d{1,18})\s+(\d{1,18})")
_PAM = re.compile(
    rb"P7\s.*?^WIDTH\s+(\d{1,18})\s.*?^HEIGHT\s+(\d{1,18})\s", re.DOTALL | re.MULTILINE
)
_RADIANCE = re.compile(rb"\n[-+]Y\s+(\d{1,18})\s+[-+]X\s+(\d{1,18})")
_JPEG_2000 = b"\xff\x4f\xff\x51"  # start of its codestream


def stated_size(encoded: bytes) -> tuple[int, int] | None:
    """Return width and height from an image's header, None if it is not understood.

    Args:
        encoded: the whole file.
    """
    try:
        return _size(encoded)
    except struct.error:  # the file ends within its header
        return None


def too_large(size: tuple[int, int] | None) -> bool:
    """Whether an image of this width and height, if known, exceeds the limit."""
    return size is not None and size[0] * size[1] > MAX_PIXELS


def _size(data: bytes) -> tuple[int, int] | None:
    if (hw := image_hw(data)) is not None:
        return hw[1], hw[0]
    if data.startswith(b"BM"):
        old = struct.unpack_from("<I", data, 14) == (12,)
        width, height = struct.unpack_from("<HH" if old else "<ii", data, 18)
        return abs(width), abs(height)  # a negative height says that the first row comes first
    if data.startswith((b"GIF87a", b"GIF89a")):
        return struct.unpack_from("<HH", data, 6)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp_size(data)
    if data.startswith(TIFF):
        return tiff_size(data)
    if data.startswith(b"\x59\xa6\x6a\x95"):  # Sun raster
        return struct.unpack_from(">II", data, 4)
    if (start := data.find(_JPEG_2000, 0, _HEAD)) >= 0:
        return struct.unpack_from(">II", data, start + 8)
    head = data[:_HEAD]
    found = _NETPBM.match(re.sub(rb"#[^\n]*", b"", head)) or _PAM.match(head)
    if found is None and head.startswith(b"#?"):
        found = _RADIANCE.search(head)
        return (int(found[2]), int(found[1])) if found else None
    return (int(found[1]), int(found[2])) if found else None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[i : i + 3], "little") for i in (24, 27))
        return width + 1, height + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None
