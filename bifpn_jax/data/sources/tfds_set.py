"""Records from prepared TFDS detection datasets.

Datasets must be prepared as array_record, which can be read without TensorFlow. The encoded images
are passed on as they are; the pipeline decodes them. The features ``image``, ``objects/bbox`` and
``objects/label`` are required; ``image/id``, ``image/filename``, ``objects/is_crowd``,
``objects/area`` and ``annotations`` are used if they exist.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from bifpn_jax import boxes as box_ops
from bifpn_jax.data.images.image_header import image_hw
from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.data.records import (
    BadImageError,
    Record,
    annotation_entries,
    category_entries,
    decode_image,
    image_entry,
)
from bifpn_jax.data.sources.source_settings import SourceSettings
from bifpn_jax.data.sources.tfds_folder import find_prepared, tfds_dir
from bifpn_jax.errors import UserError

_MANY = 20_000  # images; beyond that only training reads a whole set


def open_prepared(name: str, settings: SourceSettings) -> "TfdsRecords":
    """Open one part of a prepared set."""
    return TfdsRecords(name, settings.tfds_split, settings.data_dir, bad_images=settings.bad_images)


class TfdsRecords:
    """The records of one split of a prepared TFDS detection set.

    Attributes:
        name: the set and the split.
        label_map: the set's classes; category ids are those of the builder's metadata
            (``category_ids``) or else the labels counted from 1.
        left_out: always empty, because images are not checked before they are read.
    """

    left_out: tuple[BadImageError, ...] = ()

    def __init__(
        self,
        name: str,
        split: str,
        data_dir: str | Path | None = None,
        *,
        bad_images: str = "error",
    ) -> None:
        """Open a prepared set.

        Args:
            name: name of the set, with config and version if needed: "voc/2007", "coco2017:1.0.0".
            split: "train", "validation", or a part such as "train[:10%]".
            data_dir: the folder of the TFDS datasets; None is TFDS's default.
            bad_images: with "skip", an image whose size cannot be determined is not in the ground
                truth and counts as one without boxes.

        Raises:
            UserError: the set is not prepared, is prepared in a format that needs TensorFlow, has
                no such split, or is not a detection dataset.
        """
        self.name = f"{name} ({split})"
        self._skip = bad_images == "skip"
        builder = tfds.builder_from_directory(find_prepared(name, tfds_dir(data_dir)))
        info = builder.info
        self.label_map = _read_label_map(info, name)
        try:
            self._examples = builder.as_data_source(
                split, decoders={"image": tfds.decode.SkipDecoding()}
            )
        except ValueError:
            raise UserError(
                f"{name} has no split {split!r}; set train_split and eval_split to "
                f"{' or '.join(sorted(info.splits))}, or to a part of "
                "one, such as 'train[:90%]'"
            ) from None
        if not len(self._examples):
            raise UserError(f"{self.name} has no images; choose another split")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._examples)

    def __getitem__(self, index: int) -> Record:
        """Read one record, skipping boxes without area."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        return self._to_record(self._examples[index], index)

    def box_counts(self) -> np.ndarray | None:
        """Return the number of boxes of each image, crowds not counted; None for a large set."""
        if len(self) > _MANY:
            return None
        return np.array([self._box_count(index) for index in range(len(self))], np.int64)

    def ground_truth(self) -> dict[str, list[dict[str, Any]]]:
        """Return the content of a COCO annotation file, which reads the whole split.

        For this project's builders the annotations are exactly those of the original file.
        """
        images, annotations = [], []
        for index in range(len(self)):
            example = self._examples[index]
            try:
                record = self._to_record(example, index)
            except BadImageError:
                if not self._skip:
                    raise
                continue
            images.append(image_entry(record))
            annotations += (
                json.loads(example["annotations"])
                if "annotations" in example
                else annotation_entries(record, self.label_map, first_id=len(annotations) + 1)
            )
        return {
            "images": images,
            "annotations": annotations,
            "categories": category_entries(self.label_map),
        }

    def summary(self) -> str:
        """Return one line about the dataset for the log."""
        return f"{self.name}: {len(self)} images, {len(self.label_map)} classes"

    def _box_count(self, index: int) -> int:
        try:
            return int((~self[index].is_crowd).sum())
        except BadImageError:
            if not self._skip:
                raise
            return 0

    def _to_record(self, example: dict[str, Any], index: int) -> Record:
        encoded, objects = bytes(example["image"]), example["objects"]
        where = example.get("image/filename", b"").decode() or f"{self.name}, record {index}"
        image_id = int(example.get("image/id", index + 1))
        try:
            hw = image_hw(encoded) or decode_image(encoded, where).shape[:2]
        except UserError as error:
            raise BadImageError(error, image_id) from None
        # A sequence of objects is read as Python lists, and an empty one has no shape.
        relative = np.asarray(objects["bbox"], np.float32).reshape(-1, 4)
        boxes = box_ops.clip(relative * np.array(hw * 2, np.float32)[None], hw)
        crowd = objects.get("is_crowd", [False] * len(boxes))
        area = objects.get("area", box_ops.area(boxes))
        whole = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        return Record(
            image_id=image_id,
            encoded=encoded,
            where=where,
            boxes=boxes[whole],
            labels=np.asarray(objects["label"], np.int32)[whole],
            is_crowd=np.asarray(crowd, bool)[whole],
            area=np.asarray(area, np.float32)[whole],
            original_hw=hw,
        )


def _read_label_map(info: tfds.core.DatasetInfo, name: str) -> LabelMap:
    features = info.features
    try:
        label = features["objects"]["label"]
        _ = features["objects"]["bbox"], features["image"]
        names = tuple(label.names)
    except (KeyError, TypeError, AttributeError):
        raise UserError(
            f"TFDS set {name!r} is not a detection dataset: it needs image, objects/bbox and "
            f"objects/label but has {', '.join(sorted(features))}; choose another set"
        ) from None
    ids = (info.metadata or {}).get("category_ids", range(1, len(names) + 1))
    return LabelMap(tuple(int(i) for i in ids), names)
