"""Checks that the images of a COCO file exist in their folder, are intact and have stated sizes."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np

from bifpn_jax.data.coco.coco_file import CocoImages
from bifpn_jax.data.images.image_file import CheckedImage, check_image
from bifpn_jax.data.images.image_remarks import add_up
from bifpn_jax.data.records import BAD_IMAGES, BadImageError
from bifpn_jax.errors import UserError

_MANY_FILES = 64  # from here on several threads check the files, for slow disks


def check_images(
    folder: Path, file: Path, images: CocoImages, flag: str, bad_images: str = "error"
) -> tuple[CocoImages, tuple[BadImageError, ...], list[str]]:
    """Check every image file, which takes about 50 microseconds for most JPEG and PNG files.

    Args:
        folder: the image folder.
        file: the annotation file, for messages.
        images: what it says about them.
        flag: the setting that names the folder, for messages.
        bad_images: "error" raises for the first bad image, "skip" skips all of them.

    Returns:
        The good images, with missing sizes filled in; the errors of the bad ones; and remarks about
        unused parts of the good ones, one clause for each kind.

    Raises:
        UserError: there is no such folder, or no good image.
        BadImageError: an image is bad, and bad images are not skipped.
    """
    if bad_images not in BAD_IMAGES:
        raise UserError(f"bad_images is {bad_images!r}; set bad_images to one of {BAD_IMAGES}")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of images; correct the path ({flag}=DIR)")
    places = _places(folder, images.names)
    outside = [_outside(folder, file, name, places) for name in images.names]
    missing = [
        row for row, name in enumerate(images.names) if not outside[row] and not places[name]
    ]
    if missing and (bad_images == "error" or len(missing) == len(images.names)):
        raise _missing(folder, file, images, missing, flag)

    def check(row: int) -> CheckedImage | UserError:
        name, stated = images.names[row], tuple(images.hw[row].tolist())
        if outside[row]:
            return UserError(outside[row])
        if not places[name]:
            return UserError(f"{folder}: there is no image {name!r}; add it or leave it out")
        try:
            return check_image(folder / name, stated if all(stated) else None)
        except UserError as error:
            return error

    rows = range(len(images.names))
    if len(rows) < _MANY_FILES:
        found = [check(row) for row in rows]
    else:
        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(check, rows))
    bad = [
        BadImageError(result, int(images.ids[row]))
        for row, result in enumerate(found)
        if isinstance(result, UserError)
    ]
    if bad and bad_images == "error":
        more = f" (the first of {len(bad)} bad images)" if len(bad) > 1 else ""
        raise BadImageError(f"{bad[0]}{more}{_SKIP}", bad[0].image_id)
    if len(bad) == len(rows):
        raise UserError(f"{bad[0]} (none of the {len(bad)} images of {file} is good)")
    good = [row for row, result in enumerate(found) if not isinstance(result, UserError)]
    hw = np.array([found[row].hw for row in good], np.int32).reshape(-1, 2)
    names = [images.names[row] for row in good]
    remarks = add_up((images.names[row], found[row].remarks) for row in good)
    return CocoImages(images.ids[good], names, hw), tuple(bad), remarks


_SKIP = ", or set bad_images=skip to go on without such images"


def _places(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the real path of each named file, "" if there is none, listing each folder once."""
    listed: dict[str, dict[str, str]] = {}
    for name in names:
        listed.setdefault(str(PurePosixPath(name).parent), {})
    for parent, entries in listed.items():
        # A name that leads elsewhere is refused without looking there.
        if ".." in PurePosixPath(parent).parts or not (folder / parent).is_dir():
            continue
        real = os.path.realpath(folder / parent)
        for entry in os.scandir(folder / parent):
            here = os.path.join(real, entry.name)
            entries[entry.name] = os.path.realpath(here) if entry.is_symlink() else here
    paths = ((name, PurePosixPath(name)) for name in names)
    return {name: listed[str(path.parent)].get(path.name, "") for name, path in paths}


def _outside(folder: Path, file: Path, name: str, places: dict[str, str]) -> str:
    """Return what is wrong with a name that leads out of the image folder, "" for any other."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        return (
            f"{file}: the image {name!r} lies outside of {folder}; give file names relative to the "
            "folder of images"
        )
    if places[name] and not _is_below(places[name], os.path.realpath(folder)):
        return (
            f"{folder / name}: a link to {places[name]}, outside of the folder of images; put a "
            "copy in its place, or name the folder that the links lead to"
        )
    return ""


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(os.path.join(folder, ""))


def _missing(
    folder: Path, file: Path, images: CocoImages, rows: Sequence[int], flag: str
) -> BadImageError:
    first = images.names[rows[0]]
    return BadImageError(
        f"{folder}: {len(rows)} of the {len(images.names)} images named in {file} are missing, "
        f"the first is {first!r}{_found_elsewhere(folder, first)}; add them, or name the right "
        f"folder ({flag}=DIR){'' if len(rows) == len(images.names) else _SKIP}",
        int(images.ids[rows[0]]),
    )


def _found_elsewhere(folder: Path, name: str) -> str:
    near = [folder.parent, *(Path(e.path) for e in os.scandir(folder) if e.is_dir())]
    # For os.path, unlike pathlib, a name that no file can have is just a missing file.
    found = [str(path) for path in near[:100] if os.path.isfile(path / name)]
    return f" (it is in {found[0]})" if found else ""
