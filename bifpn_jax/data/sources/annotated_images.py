"""A folder of images, with annotations in memory in the form of a COCO file.

Everything is checked when the source is created: all annotations, and that every image exists, is
intact and has the stated size.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bifpn_jax.data.coco.coco_file import read_categories, read_images, unique_ids
from bifpn_jax.data.coco.coco_images import check_images
from bifpn_jax.data.coco.coco_objects import read_objects
from bifpn_jax.data.images.image_file import read_image_file
from bifpn_jax.data.records import BadImageError, Record
from bifpn_jax.errors import UserError


class AnnotatedImages:
    """The records of annotated images in a folder.

    Attributes:
        name: the annotation file.
        label_map: contiguous labels in the order of the category ids.
        objects: all annotations as flat arrays.
        left_out: the bad images; they and their annotations are not part of the source.
    """

    def __init__(
        self,
        images: str | Path,
        content: Mapping[str, Any],
        *,
        name: str,
        bad_boxes: str = "error",
        bad_images: str = "error",
        split: str = "train",
    ) -> None:
        """Check the dataset.

        Args:
            images: the folder of the image files.
            content: lists called images, annotations and categories, as in a COCO file.
            name: what messages call the annotations, their file.
            bad_boxes: "error", "skip" or "clip"; see ``read_objects``.
            bad_images: "error" or "skip"; see ``check_images``.
            split: "train" or "eval", for the names of the settings in messages.

        Raises:
            UserError: anything is wrong with the folder, the content or an image.
        """
        self._folder, self.name = Path(images), name
        file = Path(name)
        self._categories = content["categories"]
        self.label_map = read_categories(file, self._categories)
        table = read_images(file, content["images"])
        self._images, self.left_out, self._remarks = check_images(
            self._folder, file, table, f"{split}_images", bad_images
        )
        annotations = content["annotations"]
        if self.left_out:
            # Messages number annotations as in the file, so ids are checked before removing any.
            unique_ids(file, "annotations", annotations)
            annotations = _without(annotations, {image.image_id for image in self.left_out})
        self.objects = read_objects(file, annotations, self._images, self.label_map, bad_boxes)
        if self.objects.is_crowd.all():
            raise UserError(
                f"{file}: none of its {len(self)} images has a usable object; "
                f"annotate some, or name another file ({split}_annotations=FILE)"
            )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._images.names)

    def __getitem__(self, index: int) -> Record:
        """Read one image file; its boxes come from memory."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        path = self._folder / self._images.names[index]
        image_id = int(self._images.ids[index])
        try:
            encoded = read_image_file(path)
        except UserError as error:
            raise BadImageError(error, image_id) from None
        own = self._own(index)
        return Record(
            image_id=image_id,
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
        """Return the file's images, annotations and categories, without segmentations.

        Ids, boxes, areas and crowds are those of the file. Only if an annotation has the id 0 are
        all ids shifted to start from 1, because to pycocotools 0 means "no match".
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
            line += f"; boxes clipped to their image: {objects.num_cut}"
        if objects.num_skipped:
            line += f"; bad boxes skipped: {objects.num_skipped}"
        if self.left_out:
            line += f"; bad images skipped: {len(self.left_out)}"
        return "; ".join([line, *self.objects.remarks, *self._remarks])

    def _own(self, index: int) -> slice:
        return slice(int(self.objects.first[index]), int(self.objects.first[index + 1]))


def _without(annotations: list[dict[str, Any]], image_ids: set[int]) -> list[dict[str, Any]]:
    """Return the annotations of all other images, including those of no image."""

    def is_of_them(image_id: Any) -> bool:
        return type(image_id) is int and image_id in image_ids

    return [entry for entry in annotations if not is_of_them(entry.get("image_id"))]
