"""Reads image files from disk and checks them quickly, without blocking on pipes."""

import os
import stat
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bifpn_jax.data.images.image_header import ends_whole, image_hw
from bifpn_jax.data.images.image_limit import too_large
from bifpn_jax.data.images.image_remarks import header_remarks, image_remarks
from bifpn_jax.data.records import Record, load_image
from bifpn_jax.errors import UserError

_HEAD, _TAIL = 4096, 16  # bytes; the size is nearly always in the first four kilobytes
_MAX_BYTES = 2**31 - 1  # what OpenCV can decode


class CheckedImage(NamedTuple):
    """An image file that passed the checks.

    Attributes:
        hw: height and width after EXIF rotation.
        remarks: its parts that are not used.
    """

    hw: tuple[int, int]
    remarks: list[str]


def read_image_file(path: Path) -> bytes:
    """Return the content of an image file.

    Raises:
        UserError: there is no such file, it cannot be read, or it is not a regular file.
    """
    try:
        _check_kind(path)
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def check_image(path: Path, stated_hw: tuple[int, int] | None = None) -> CheckedImage:
    """Return an image's size and remarks, decoding it only if a quick look is not enough.

    Args:
        path: the image file.
        stated_hw: the expected size, if known.

    Raises:
        UserError: there is no such image, or it is damaged, too large or of another size.
    """
    try:
        _check_kind(path)
        with path.open("rb") as file:
            head = file.read(_HEAD)
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            is_whole = ends_whole(file.read())
            if is_whole and (checked := _check_header(head, stated_hw)):
                return checked
            file.seek(0)
            encoded = file.read()
    except OSError as error:
        raise _unreadable(path, error) from None
    if is_whole and (checked := _check_header(encoded, stated_hw)):
        return checked
    none = np.zeros(0)
    record = Record(0, encoded, str(path), none, none, none, none, original_hw=stated_hw)
    image = load_image(record, thorough=True)
    return CheckedImage(image.shape[:2], image_remarks(encoded, image))


def _check_header(encoded: bytes, stated_hw: tuple[int, int] | None) -> CheckedImage | None:
    """Return what the header says, None if it is incomplete or something is wrong."""
    hw, remarks = image_hw(encoded), header_remarks(encoded)
    if hw is None or remarks is None or hw != (stated_hw or hw) or too_large(hw):
        return None
    return CheckedImage(hw, remarks)


def _check_kind(path: Path) -> None:
    """Refuse huge files, and anything but regular files: opening a pipe would wait forever."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(
            f"{path}: a folder, pipe or device, not an image file; put an image in its place or "
            "leave it out"
        )
    if status.st_size > _MAX_BYTES:
        raise UserError(
            f"{path}: a file of {status.st_size / 1e9:.1f} GB, more than an image decoder takes; "
            "put a smaller copy in its place or leave the image out"
        )


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path}: cannot be read ({error.strerror}); put a good copy in its place or leave the "
        "image out"
    )
