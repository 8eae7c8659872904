"""Decodes AVIF files with Pillow, which respects their bit depth and orientation.

OpenCV returns 10 and 12 bits as small 16-bit numbers, and ignores the orientation.
"""

import io
from typing import Any

import numpy as np

from bifpn_jax.data.images.image_limit import too_large

BRANDS = (b"ftypavif", b"ftypavis")


def is_avif(encoded: bytes) -> bool:
    """Whether a file says that it is AVIF."""
    return encoded[4:12] in BRANDS


def decode_avif(encoded: bytes) -> np.ndarray | None:
    """Decode the first frame to upright [H, W, 3] uint8 RGB; None if Pillow has no AVIF support.

    Raises:
        ValueError: the file is damaged, or too large.
    """
    from PIL import ImageOps

    page = _open(encoded)
    if page is None:
        return None
    if too_large(page.size):
        raise ValueError(f"{page.size[0]}x{page.size[1]} pixels, more than are decoded")
    try:
        return np.asarray(ImageOps.exif_transpose(page).convert("RGB"))
    except Exception as error:  # of many kinds, for damaged files
        raise ValueError(str(error) or type(error).__name__) from None


def _open(encoded: bytes) -> Any | None:
    try:
        from PIL import AvifImagePlugin  # of Pillow 11.3 and newer

        return AvifImagePlugin.AvifImageFile(io.BytesIO(encoded))
    except Exception:  # without libavif, or with an odd header
        return None
