"""Opens the dataset that a configuration names."""

import dataclasses
import difflib
from pathlib import Path
from typing import Any

import numpy as np

from bifpn_jax.data.class_matching import describe, match_names
from bifpn_jax.data.label_map import LabelIds, LabelMap, ResultIds
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

    from bifpn_jax.data.sources.tfds_set import TfdsRecords

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
    from bifpn_jax.data.sources.coco_folder import CocoJson

    return CocoJson(images, annotations, bad_boxes=bad_boxes, bad_images=bad_images, split=split)


def _prepare(source: str, data_dir: str | Path | None, shapes: dict[str, Any]) -> str:
    """Return the TFDS name of a source, after preparing it where this project can."""
    if source == "shapes":
        from bifpn_jax.data.sources.shapes import prepare_shapes

        return prepare_shapes(data_dir, **shapes)
    if source == "coco2017":
        from bifpn_jax.data.sources.coco2017 import prepare_coco2017

        return prepare_coco2017(data_dir)
    from bifpn_jax.data.sources.tfds_set import tfds_dir

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


class Relabelled:
    """A source whose records are labelled after another label map, matched by name.

    It gives a dataset the classes of a model, whatever their ids and order, and the layout of its
    outputs, for instance that of a published COCO model with 90 of them:
    ``Relabelled(source, source.label_map.with_gaps(90))``. One that is relabelled already is
    matched anew by its own categories.

    Attributes:
        result_ids: the dataset's own category ids of the new labels, for the files that are
            written.
    """

    def __init__(self, source: Source, label_map: LabelMap, owner: str = "the model") -> None:
        """Match the categories.

        Args:
            source: the dataset.
            label_map: the classes that its records shall have.
            owner: whose they are, for messages.

        Raises:
            UserError: the dataset has annotations of a category that the label map does not have.
        """
        while isinstance(source, Relabelled):
            source = source._source
        self._source, self.label_map = source, label_map
        self.name, self.left_out = source.name, source.left_out
        self.match = match_names(source.label_map, label_map)
        unknown = self.match.unknown
        used = used_names(source) if unknown else ()
        if named := describe(unknown, source.label_map, label_map, owner, used):
            raise UserError(
                f"{source.name} has annotations of categories that {owner} does not have: {named}; "
                "give them the names that are known there, or leave these annotations out"
            )
        self.result_ids = ResultIds(self.match.result_ids())
        self._note = self.match.note(owner)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        """Return a record with the new labels."""
        record = self._source[index]
        return dataclasses.replace(record, labels=self.match.labels[record.labels])

    def box_counts(self) -> np.ndarray | None:
        """Return the number of boxes of each image, as the source does."""
        return self._source.box_counts()

    def ground_truth(self) -> dict[str, list[dict[str, Any]]]:
        """Return the source's ground truth, which is in its own category ids and stays the same."""
        return self._source.ground_truth()

    def summary(self) -> str:
        """Return one line about the dataset for the log, with what was matched how."""
        return "; ".join(filter(None, [self._source.summary(), self._note]))


def match_classes(train: Source, evaluation: Source) -> Source:
    """Return the evaluation data of a run with the labels of its training data, matched by name.

    Raises:
        UserError: one of the two has annotations of a category that the other does not list.
    """
    if train.label_map == evaluation.label_map:
        return evaluation
    matched = Relabelled(evaluation, train.label_map, train.name)
    missing, theirs = matched.match.missing, matched.match.data
    used = used_names(train) if missing else ()
    if named := describe(missing, train.label_map, theirs, evaluation.name, used):
        raise UserError(
            f"{train.name} has annotations of categories that {evaluation.name} does not list: "
            f"{named}; add them to its categories, with or without annotations"
        )
    return matched


def result_ids(source: Source) -> LabelIds:
    """Return what gives the labels of a source the category ids of its annotation file."""
    return source.result_ids if isinstance(source, Relabelled) else source.label_map


def used_names(source: Source) -> set[str]:
    """Return the names of the categories with annotations; this may read the whole source."""
    truth = source.ground_truth()
    used = {annotation["category_id"] for annotation in truth["annotations"]}
    return {entry["name"] for entry in truth["categories"] if entry["id"] in used}
