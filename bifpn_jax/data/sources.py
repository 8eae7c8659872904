"""Opens the dataset that a configuration names."""

import dataclasses
import difflib
from pathlib import Path
from typing import Any

import numpy as np

from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.data.records import Record, Source
from bifpn_jax.errors import UserError

_OWN = ("coco_json", "shapes", "coco2017")


def open_source(
    source: str,
    split: str,
    *,
    data_dir: str | Path | None = None,
    train_images: str = "",
    train_annotations: str = "",
    eval_images: str = "",
    eval_annotations: str = "",
    train_split: str = "train",
    eval_split: str = "validation",
    bad_boxes: str = "error",
    bad_images: str = "error",
    **shapes: Any,
) -> Source:
    """Open the training or the evaluation part of a dataset.

    Args:
      source: "coco_json" (a folder of images and a COCO JSON), "shapes" (drawn, no download),
        "coco2017" (downloaded when it is not there), or the name of any detection set that TFDS
        has prepared as array_record, such as "voc/2007".
      split: "train" or "eval".
      data_dir: folder of the TFDS sets; None or "" is TFDS's own default.
      train_images: folder of images, for coco_json; the next three likewise.
      train_annotations: COCO JSON.
      eval_images: folder of images.
      eval_annotations: COCO JSON.
      train_split: TFDS split to train on.
      eval_split: TFDS split to evaluate on.
      bad_boxes: for coco_json, what to do about impossible boxes: "error", "skip" or "clip".
      bad_images: what to do about images that cannot be used: "error" or "skip".
      **shapes: options of the drawn images: num_train, num_eval, seed, sides, max_shapes.

    Raises:
      UserError: a setting is missing or the dataset is not in order.
    """
    if split not in ("train", "eval"):
        raise ValueError(f"split is {split!r}, not 'train' or 'eval'")
    training = split == "train"
    if source == "coco_json":
        images = train_images if training else eval_images
        annotations = train_annotations if training else eval_annotations
        return _open_coco_json(images, annotations, split, bad_boxes, bad_images)
    name = _prepare(source, data_dir, shapes)

    from bifpn_jax.data.tfds_records import TfdsRecords

    split_name = train_split if training else eval_split
    return TfdsRecords(name, split_name, data_dir, bad_images=bad_images)


def _open_coco_json(
    images: str, annotations: str, split: str, bad_boxes: str, bad_images: str
) -> Source:
    for value, flag in ((images, "images=DIR"), (annotations, "annotations=FILE")):
        if not value:
            raise UserError(
                f"the coco_json source needs --config.data.{split}_{flag}",
                "set it, or train on drawn images with --config.data.source=shapes",
            )
    from bifpn_jax.data.coco_json import CocoJson

    return CocoJson(images, annotations, bad_boxes=bad_boxes, bad_images=bad_images, split=split)


def _prepare(source: str, data_dir: str | Path | None, shapes: dict[str, Any]) -> str:
    """Return the TFDS name of a source, after preparing it where this project can."""
    if source == "shapes":
        from bifpn_jax.data.shapes import prepare_shapes

        return prepare_shapes(data_dir, **shapes)
    if source == "coco2017":
        from bifpn_jax.data.coco2017 import prepare_coco2017

        return prepare_coco2017(data_dir)
    from bifpn_jax.data.tfds_records import tfds_dir

    exists = bool(source) and (tfds_dir(data_dir) / source.partition(":")[0]).exists()
    # A name with a slash is TFDS's own, unless it is one of these but for that.
    near = difflib.get_close_matches(source, _OWN, 1, 0.85 if "/" in source else 0.6)
    if not source or (near and not exists):
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise UserError(
            f"there is no dataset {source!r}{meant}",
            f"set --config.data.source to {', '.join(_OWN)} or the name of a detection set that "
            "TFDS has prepared, such as voc/2007",
        )
    return source


def check_same_classes(train: Source, evaluation: Source) -> None:
    """Check that two datasets of one run have the same categories under the same labels."""
    ours, theirs = train.label_map, evaluation.label_map
    if ours == theirs:
        return
    a, b = (dict(zip(m.category_ids, m.names, strict=True)) for m in (ours, theirs))
    different = next((i for i in sorted({*a, *b}) if a.get(i) != b.get(i)), None)
    detail = (
        "they are in a different order"
        if different is None
        else f"id {different} is {a.get(different, 'missing')!r} in the first and "
        f"{b.get(different, 'missing')!r} in the second"
    )
    raise UserError(
        f"{train.name} and {evaluation.name} do not have the same categories: {detail}; give both "
        "the same list of categories"
    )


class Relabelled:
    """A source whose records are labelled after another label map, matched by category id.

    It gives a dataset the layout of a model, for instance that of a published COCO model with 90
    outputs: ``Relabelled(source, source.label_map.with_gaps(90))``.
    """

    def __init__(self, source: Source, label_map: LabelMap) -> None:
        """Match the categories; one that the new map lacks or calls differently is an error."""
        self._source, self.label_map = source, label_map
        self.name, self.left_out = source.name, source.left_out
        ours = source.label_map
        try:
            self._new_label = label_map.to_labels(ours.category_ids)
        except UserError as error:
            raise UserError(f"{source.name} does not fit the model's classes: {error}") from None
        for label, new in enumerate(self._new_label):
            if ours.names[label] != label_map.names[new]:
                raise UserError(
                    f"{source.name}: category {ours.category_ids[label]} is "
                    f"{ours.names[label]!r} but the model calls it {label_map.names[new]!r}; "
                    "use a dataset with the model's categories"
                )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        """Return a record with the new labels."""
        record = self._source[index]
        return dataclasses.replace(record, labels=self._new_label[record.labels])

    def box_counts(self) -> np.ndarray | None:
        """Return the number of boxes of each image, as the source does."""
        return self._source.box_counts()

    def ground_truth(self) -> dict[str, list[dict[str, Any]]]:
        """Return the source's ground truth, which is in category ids and so stays the same."""
        return self._source.ground_truth()

    def summary(self) -> str:
        """Return one line about the dataset for the log."""
        return self._source.summary()
