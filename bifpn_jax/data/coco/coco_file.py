"""Reads a COCO annotation file, checks it in full, and keeps it as flat arrays.

All faults in the text of the file are found here, before an image is read and long before training
starts. Each error names the file, the record and the fix.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.errors import UserError


@dataclass(frozen=True)
class CocoImages:
    """The images of an annotation file.

    Attributes:
        ids: [N] int64, in the file's order.
        names: N file names, relative to the image folder.
        hw: [N, 2] int32 height and width, 0 if the file does not state them.
    """

    ids: np.ndarray
    names: list[str]
    hw: np.ndarray


def read_annotation_file(path: Path, flag: str) -> dict[str, Any]:
    """Read a COCO JSON and check that it has the three lists; segmentations are not kept.

    Args:
        path: the file.
        flag: the setting that names the file, for the message.
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait forever
        raise UserError(
            f"{path}: cannot be read (a folder, pipe or device); correct the path ({flag}=FILE)"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such annotation file; correct the path ({flag}=FILE)"
        ) from None
    except UnicodeDecodeError:
        raise UserError(
            f"{path}: not a text file, so not a COCO JSON; correct the path ({flag}=FILE)"
        ) from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); correct the path ({flag}=FILE)"
        ) from None
    try:
        content = json.loads(text, object_hook=_without_segmentation)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: not JSON at line {error.lineno}, column {error.colno} ({error.msg}); "
            f"correct it there, or name the right file ({flag}=FILE)"
        ) from None
    except (ValueError, RecursionError) as error:  # thousands of digits or of brackets
        raise UserError(
            f"{path}: JSON that cannot be read ({error}); name the right file ({flag}=FILE)"
        ) from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(
                f"{path}: no list called {key!r}, so not a COCO annotation file of objects; "
                f"name one that has images, annotations and categories ({flag}=FILE)"
            )
        for i, entry in enumerate(content[key]):
            if not isinstance(entry, dict):
                raise UserError(f"{path}: {key}[{i}] is {entry!r}; make it an object with an id")
    return content


def _without_segmentation(entry: dict[str, Any]) -> dict[str, Any]:
    # Polygons are most of the memory of a large file and nothing here needs them.
    entry.pop("segmentation", None)
    return entry


def read_categories(path: Path, categories: list[dict[str, Any]]) -> LabelMap:
    """Check the categories and number them contiguously in the order of their ids."""
    if not categories:
        raise UserError(f"{path}: the list of categories is empty; add the classes")
    unique_ids(path, "categories", categories)
    owner: dict[str, int] = {}
    for i, category in enumerate(categories):
        name = category.get("name")
        if not isinstance(name, str) or not name:
            raise UserError(f"{path}: categories[{i}] has no name; add one")
        if name in owner:
            raise UserError(
                f"{path}: categories {owner[name]} and {category['id']} are both called {name!r}; "
                "rename one or merge them"
            )
        owner[name] = category["id"]
    return LabelMap.from_coco_categories(categories)


def read_images(path: Path, images: list[dict[str, Any]]) -> CocoImages:
    """Check the list of images."""
    if not images:
        raise UserError(f"{path}: the list of images is empty; name a file with annotated images")
    ids = unique_ids(path, "images", images)
    names, sizes = [], []
    for image in images:
        name = image.get("file_name")
        if not isinstance(name, str) or not name:
            raise UserError(f"{path}: image {image['id']} has no file_name; add it")
        if name.splitlines() != [name]:
            raise UserError(
                f"{path}: image {image['id']} has the file_name {name!r}, which is more than one "
                "line; rename the file"
            )
        names.append(name)
        hw = image.get("height", 0), image.get("width", 0)
        if not all(type(side) is int and 0 <= side < 2**31 for side in hw):
            raise UserError(
                f"{path}: image {image['id']} ({name}) has height {hw[0]!r} and width {hw[1]!r}; "
                "give whole pixels or leave both out"
            )
        sizes.append(hw if all(hw) else (0, 0))
    return CocoImages(ids, names, np.array(sizes, np.int32).reshape(-1, 2))


def unique_ids(path: Path | str, key: str, entries: list[dict[str, Any]]) -> np.ndarray:
    """Return the entries' ids [N] int64 after checking that they are distinct integers.

    Bools, which are ints to Python, and floats, a sign of a broken export, are refused.
    """
    ids = [entry.get("id") for entry in entries]
    seen: dict[int, int] = {}
    for i, value in enumerate(ids):
        if type(value) is not int or abs(value) >= 2**63:
            raise UserError(f"{path}: {key}[{i}] has the id {value!r}; give it a whole number")
        if value in seen:
            raise UserError(
                f"{path}: {key}[{seen[value]}] and {key}[{i}] both have the id {value}; "
                "number them differently or remove one"
            )
        seen[value] = i
    return np.array(ids, np.int64)
