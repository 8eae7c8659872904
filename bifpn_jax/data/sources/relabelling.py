"""Datasets with the classes of a model, or of the training data, matched by name."""

import dataclasses
from typing import Any

import numpy as np

from bifpn_jax.data.class_matching import describe, match_names
from bifpn_jax.data.label_map import LabelIds, LabelMap, ResultIds
from bifpn_jax.data.records import Record, Source
from bifpn_jax.errors import UserError


class Relabelled:
    """A source whose records are relabelled with another label map, matched by name.

    It gives a dataset the classes of a model, whatever their ids and order, and the layout of its
    outputs, for instance the 90 of a published COCO model:
    ``Relabelled(source, source.label_map.with_gaps(90))``. A source that is already relabelled is
    matched again by its original categories.

    Attributes:
        result_ids: the dataset's own category ids of the new labels, for output files.
    """

    def __init__(self, source: Source, label_map: LabelMap, owner: str = "the model") -> None:
        """Match the categories.

        Args:
            source: the dataset.
            label_map: the classes that its records get.
            owner: what messages call the owner of these classes.

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
        """Return the source's ground truth unchanged, with its own category ids."""
        return self._source.ground_truth()

    def summary(self) -> str:
        """Return one line about the dataset for the log, including how classes were matched."""
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
    """Return the mapping from the labels of a source to the category ids of its annotation file."""
    return source.result_ids if isinstance(source, Relabelled) else source.label_map


def used_names(source: Source) -> set[str]:
    """Return the names of the categories that have annotations; may read the whole source."""
    truth = source.ground_truth()
    used = {annotation["category_id"] for annotation in truth["annotations"]}
    return {entry["name"] for entry in truth["categories"] if entry["id"] in used}
