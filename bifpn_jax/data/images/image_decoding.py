"""Decodes an image file to 8-bit RGB, or raises an error that says what is wrong with the file."""

import cv2
import numpy as np

from bifpn_jax.data.images.avif import decode_avif, is_avif
from bifpn_jax.data.images.image_header import is_truncated
from bifpn_jax.data.images.image_limit import MAX_PIXELS, stated_size, too_large
from bifpn_jax.data.images.jpeg import decode_jpeg
from bifpn_jax.data.images.netpbm import decode_netpbm
from bifpn_jax.data.images.png import decode_png
from bifpn_jax.data.images.tiff import SIGNATURES as TIFF
from bifpn_jax.data.images.tiff import check_tiff, decode_tiff, odd_bands
from bifpn_jax.errors import UserError

# The pipeline works on one image per thread; threads inside OpenCV would only compete with them.
cv2.setNumThreads(0)
# A file that cannot be decoded raises a UserError; OpenCV need not log it on stderr as well.
_set_log_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel  # 4.x, 5
_set_log_level(0)

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_NETPBM = (b"P5", b"P6", b"P7")
_REPLACE = "put a good copy in its place or leave the image out"
_HEIC = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftyphevx", b"ftypheim", b"ftypheis", b"ftypmif1")


def decode_image(encoded: bytes, where: str, *, thorough: bool = False) -> np.ndarray:
    """Decode an image file to [H, W, 3] uint8 RGB.

    Grey, CMYK and palette images become RGB, and EXIF rotation is applied. An alpha channel is
    dropped; premultiplied colours are first divided by it. 16 bits are scaled to 8 with rounding,
    from the file's value of white if it states a lower one. Of several pages or frames the first is
    used.

    Damage is detected if the format allows it: by inconsistencies in JPEG, checksums in PNG, and
    the decoder in compressed TIFF, GIF and AVIF. In uncompressed files, WebP and JPEG 2000, changed
    bytes just give other colours.

    Args:
        encoded: the content of the file.
        where: the file's name, for the message.
        thorough: look for damage in a TIFF file that its decoder ignores, in nearly twice the
            time; other formats have none.

    Raises:
        UserError: the bytes are not an image, or the image is damaged or has too many pixels.
    """
    if not encoded:
        raise UserError(f"{where}: the file is empty; {_REPLACE}")
    if too_large(size := stated_size(encoded)):
        raise _too_large(where, *size)
    if is_truncated(encoded):
        raise UserError(f"{where}: the image is cut off after {len(encoded)} bytes; {_REPLACE}")
    try:
        if thorough and encoded.startswith(TIFF):
            check_tiff(encoded)
        image, white = _decode(encoded)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{where}: the image is damaged inside ({reason}); {_REPLACE}") from None
    except cv2.error:
        image = None
    if image is None:
        raise UserError(f"{where}: {_not_an_image(encoded)}")
    if too_large(image.shape[1::-1]):  # for formats whose header is not read here
        raise _too_large(where, *image.shape[1::-1])
    if image.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{where}: pixels of type {image.dtype}; save it with 8 or 16 bits")
    return _to_8_bits(image, white)


def _decode(encoded: bytes) -> tuple[np.ndarray | None, int]:
    """Return RGB as stored, None if the file cannot be decoded, and the value of white.

    Raises:
        ValueError: the file is damaged.
    """
    if encoded.startswith(_JPEG):
        return decode_jpeg(encoded), 255
    if encoded.startswith(_PNG):
        return decode_png(encoded)
    if encoded.startswith(TIFF):
        return decode_tiff(encoded)
    if is_avif(encoded):
        return decode_avif(encoded), 255
    if encoded.startswith(_NETPBM) and (decoded := decode_netpbm(encoded)) is not None:
        return decoded
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    if image is None or image.dtype not in (np.uint8, np.uint16):
        return image, 0
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), 65535 if image.dtype == np.uint16 else 255


def _to_8_bits(image: np.ndarray, white: int) -> np.ndarray:
    """Scale 0..white to 0..255 with rounding; what is above white becomes white."""
    if white == 255:
        return image if image.dtype == np.uint8 else np.minimum(image, 255).astype(np.uint8)
    if white == 65535:
        # round(v / 257) in integers: 65535 -> 255 exactly.
        return ((image.astype(np.uint32) * 255 + 32895) >> 16).astype(np.uint8)
    values = np.arange(np.iinfo(image.dtype).max + 1)
    return np.rint(np.minimum(values, white) * (255 / white)).astype(np.uint8)[image]


def _not_an_image(encoded: bytes) -> str:
    """Describe a file that cannot be decoded."""
    if encoded.startswith(b"version https://git-lfs"):
        return (
            "not an image but a Git LFS pointer to one; fetch the images with 'git lfs pull' or "
            "leave the image out"
        )
    if encoded[4:12] in _HEIC:
        return (
            "not an image that OpenCV can decode but a HEIC photograph, whatever its name; convert "
            "it to JPEG or PNG or leave the image out"
        )
    if is_avif(encoded):
        return "an AVIF image, which needs Pillow 11.3 or newer; install it or convert the image"
    if bands := odd_bands(encoded):
        return (
            f"a TIFF of {bands} bands that are not said to be RGB; save three of them as an RGB "
            "image or leave the image out"
        )
    return (
        f"not an image that OpenCV can decode, or a damaged one ({len(encoded)} bytes, beginning "
        f"{encoded[:4]!r}); {_REPLACE}"
    )


def _too_large(where: str, width: int, height: int) -> UserError:
    return UserError(
        f"{where}: its header says {width}x{height} pixels (width x height), and more than "
        f"{MAX_PIXELS:,} are not decoded; cut it into tiles or leave the image out"
    )
