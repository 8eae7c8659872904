"""A folder of images with a COCO JSON, read directly: nothing to convert.

Everything is checked when the source is opened: the annotation file to the last box, and of every
image that it exists, is whole and has the stated size. That costs about 50 microseconds an image.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from bifpn_jax.data.coco_file import (
    CocoImages,
    read_annotation_file,
    read_categories,
    read_images,
)
from bifpn_jax.data.coco_objects import read_objects
from bifpn_jax.data.image_header import ends_whole, image_hw
from bifpn_jax.data.records import Record, load_image
from bifpn_jax.errors import UserError

_HEAD, _TAIL = 4096, 16  # bytes; the size nearly always stands in the first four kilobytes
_MANY_FILES = 64  # from here on the files are looked at by several threads, for slow disks


class CocoJson:
    """The records of a COCO annotation file.

    Attributes:
      name: the annotation file.
      label_map: contiguous labels in the order of the category ids.
      objects: all annotations as flat arrays.
    """

    def __init__(
        self,
        images: str | Path,
        annotations: str | Path,
        *,
        bad_boxes: str = "error",
        split: str = "train",
    ) -> None:
        """Open the dataset and check it.

        Args:
          images: the folder of the image files.
          annotations: the COCO JSON.
          bad_boxes: "error", "skip" or "clip"; see ``read_objects``.
          split: "train" or "eval", for the names of the settings in messages.

        Raises:
          UserError: anything is wrong with the folder, the file or an image.
        """
        self._folder, self._file = Path(images), Path(annotations)
        self.name = str(annotations)
        content = read_annotation_file(self._file, f"config.data.{split}_annotations")
        self._categories = content["categories"]
        self.label_map = read_categories(self._file, self._categories)
        table = read_images(self._file, content["images"])
        _check_files(self._folder, self._file, table.names, f"config.data.{split}_images")
        self._images = _check_images(self._folder, table)
        self.objects = read_objects(
            self._file, content["annotations"], self._images, self.label_map, bad_boxes
        )
        if self.objects.is_crowd.all():
            raise UserError(
                f"{self._file}: none of its {len(self)} images has a usable object; "
                "annotate some, or name another file "
                f"(--config.data.{split}_annotations=FILE)"
            )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images.names)

    def __getitem__(self, index: int) -> Record:
        """Read one image file; its boxes come from memory."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        path = self._folder / self._images.names[index]
        try:
            encoded = path.read_bytes()
        except OSError as error:
            raise UserError(
                f"{path}: cannot be read any more ({error.strerror}); put the file back"
            ) from None
        own = self._own(index)
        return Record(
            image_id=int(self._images.ids[index]),
            encoded=encoded,
            where=str(path),
            boxes=self.objects.yxyx[own],
            labels=self.objects.labels[own],
            is_crowd=self.objects.is_crowd[own],
            area=self.objects.area[own].astype(np.float32),
            original_hw=tuple(self._images.hw[index].tolist()),
        )

    def box_counts(self) -> np.ndarray:
        """Return the number of boxes of each image, crowds not counted: [len] int64."""
        counted = np.concatenate([[0], np.cumsum(~self.objects.is_crowd)])
        return np.diff(counted[self.objects.first])

    def ground_truth(self) -> dict[str, list[dict[str, Any]]]:
        """Return the file's images, annotations and categories, segmentations left out.

        Ids, boxes, areas and crowds are those of the file. Only where an annotation has the id 0
        are all numbered higher, from 1 on, because pycocotools takes 0 for "no match".
        """
        images, annotations = [], []
        for row, image_id in enumerate(self._images.ids.tolist()):
            height, width = self._images.hw[row].tolist()
            images.append(
                {
                    "id": image_id,
                    "file_name": self._images.names[row],
                    "height": height,
                    "width": width,
                }
            )
            annotations += self.objects.entries(self._own(row), image_id, self.label_map)
        if any(annotation["id"] == 0 for annotation in annotations):
            lowest = min(annotation["id"] for annotation in annotations)
            for annotation in annotations:
                annotation["id"] += 1 - lowest
        categories = [dict(category) for category in self._categories]
        return {"images": images, "annotations": annotations, "categories": categories}

    def summary(self) -> str:
        """Return one line about the dataset for the log."""
        objects = self.objects
        line = (
            f"{self.name}: {len(self)} images ({int((self.box_counts() == 0).sum())} without "
            f"objects), {len(objects.ids)} boxes ({int(objects.is_crowd.sum())} crowds), "
            f"{len(self.label_map)} classes"
        )
        if objects.num_cut:
            line += f"; boxes cut to their image: {objects.num_cut}"
        if objects.num_skipped:
            line += f"; bad boxes left out: {objects.num_skipped}"
        return line

    def _own(self, index: int) -> slice:
        return slice(int(self.objects.first[index]), int(self.objects.first[index + 1]))


def _check_files(folder: Path, file: Path, names: Sequence[str], flag: str) -> None:
    """Check that every named file lies in the folder, listing each folder once."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of images; correct the path (--{flag}=DIR)")
    parents = {}
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise UserError(
                f"{file}: the image {name!r} lies outside of {folder}; give file names relative "
                "to the folder of images"
            )
        parents.setdefault(str(path.parent), set())
    for parent, present in parents.items():
        if (folder / parent).is_dir():
            present.update(entry.name for entry in os.scandir(folder / parent))
    missing = [
        name
        for name in names
        if PurePosixPath(name).name not in parents[str(PurePosixPath(name).parent)]
    ]
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} of the {len(names)} images named in {file} are missing, "
            f"the first is {missing[0]!r}{_found_elsewhere(folder, missing[0])}; "
            f"add them, or name the right folder (--{flag}=DIR)"
        )


def _found_elsewhere(folder: Path, name: str) -> str:
    near = [folder.parent, *(Path(e.path) for e in os.scandir(folder) if e.is_dir())]
    found = [str(path) for path in near[:100] if (path / name).is_file()]
    return f" (it is in {found[0]})" if found else ""


def _check_images(folder: Path, images: CocoImages) -> CocoImages:
    """Check that every image is whole and as large as stated; fill in sizes not stated."""

    def check(row: int) -> tuple[int, int] | UserError:
        stated = tuple(images.hw[row].tolist())
        try:
            return check_image(folder / images.names[row], stated if all(stated) else None)
        except UserError as error:
            return error

    rows = range(len(images.names))
    if len(rows) < _MANY_FILES:
        found = [check(row) for row in rows]
    else:
        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(check, rows))
    errors = [result for result in found if isinstance(result, UserError)]
    if errors:
        more = f" (the first of {len(errors)} bad images)" if len(errors) > 1 else ""
        raise UserError(f"{errors[0]}{more}")
    return CocoImages(images.ids, images.names, np.array(found, np.int32).reshape(-1, 2))


def check_image(path: Path, stated_hw: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return an image's height and width, from a decode only where a quick look is not enough.

    Args:
      path: the image file.
      stated_hw: what the size should be, if that is known.

    Raises:
      UserError: there is no such image, it is damaged, or of another size.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            hw = image_hw(head) if ends_whole(file.read()) else None
            if hw is not None and hw == (stated_hw or hw):
                return hw
            file.seek(0)
            encoded = file.read()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the file") from None
    none = np.zeros(0)
    record = Record(0, encoded, str(path), none, none, none, none, original_hw=stated_hw)
    return load_image(record).shape[:2]
