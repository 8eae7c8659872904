"""Decodes binary PGM, PPM and PAM files, whose scale and colour order OpenCV gets wrong.

It ignores the maxval in the header, and returns the colours of PAM files in reverse order.
"""

import re

import numpy as np

# Magic, width, height, depth (PAM only) and the value of white; then one whitespace and the data.
_SPACE = rb"(?:\s|#[^\n]*\n)+"
_NUMBER = rb"(\d{1,9})"
_PNM = re.compile(rb"P([56])" + (_SPACE + _NUMBER) * 3 + rb"\s")
_PAM_END = re.compile(rb"^ENDHDR[ \t]*\n", re.MULTILINE)
_HEAD = 65536  # bytes that are searched for the header


def decode_netpbm(encoded: bytes) -> tuple[np.ndarray, int] | None:
    """Decode a binary PGM, PPM or PAM file; None for other files and bitmaps.

    Returns:
        [H, W, 3] uint8 or uint16 RGB, and the value of white.

    Raises:
        ValueError: the file is truncated.
    """
    found = _read_header(encoded)
    if found is None:
        return None
    width, height, depth, white, start = found
    dtype = np.dtype(np.uint8) if white < 256 else np.dtype(">u2")
    count = width * height * depth
    if not 0 < white < 65536 or len(encoded) - start < count * dtype.itemsize:
        raise ValueError("its data ends before its pixels do")
    pixels = np.frombuffer(encoded, dtype, count, start).reshape(height, width, depth)
    if depth < 3:
        pixels = np.repeat(pixels[..., :1], 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3], dtype.newbyteorder("=")), white


def _read_header(encoded: bytes) -> tuple[int, int, int, int, int] | None:
    """Return width, height, depth, the value of white and the offset of the pixels."""
    if found := _PNM.match(encoded[:_HEAD]):
        width, height, white = (int(number) for number in found.groups()[1:])
        return width, height, 1 if found[1] == b"5" else 3, white, found.end()
    end = _PAM_END.search(encoded[:_HEAD]) if encoded.startswith(b"P7\n") else None
    if end is None:
        return None
    lines = [line.split() for line in encoded[: end.start()].splitlines()]
    fields = {line[0]: line[1] for line in lines if len(line) == 2 and line[1].isdigit()}
    keys = (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL")
    if any(key not in fields for key in keys) or int(fields[b"MAXVAL"]) < 2:
        return None
    return (*(int(fields[key]) for key in keys), end.end())
