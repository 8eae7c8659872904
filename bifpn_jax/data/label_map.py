"""Label map: the translation between a dataset's category ids and the model's contiguous labels.

Inside the project a class is a label 0..K-1. Category ids of any kind (1-based, with gaps, COCO's
1..90) exist only in annotation files and in the files that are written for the user.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from bifpn_jax.errors import UserError

# How a model's outputs are numbered: as the classes come, or by category ids, with gaps.
CONTIGUOUS, CATEGORY_ID = LABEL_SPACES = ("contiguous", "category_id")


class LabelIds(Protocol):
    """Anything that knows the category id of a label: a ``LabelMap`` or ``ResultIds``."""

    def to_category_ids(self, labels: Iterable[int]) -> np.ndarray:
        """Label [N] -> category ids [N]."""
        ...


@dataclass(frozen=True)
class LabelMap:
    """Label ``i`` stands for category ``category_ids[i]``, called ``names[i]``.

    Attributes:
        category_ids: the K different category ids, in the order of the labels.
        names: the K different class names.
    """

    category_ids: tuple[int, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.category_ids) != len(self.names):
            raise UserError(
                f"label map: {len(self.category_ids)} category ids but {len(self.names)} names; "
                "give one name for each id"
            )
        if not self.category_ids:
            raise UserError("label map: no classes; name at least one category")
        _refuse_repeats(self.category_ids, "category id")
        _refuse_repeats(self.names, "class name")

    def __len__(self) -> int:
        """Return the number of classes K, unused ones included."""
        return len(self.category_ids)

    @cached_property
    def _label_of(self) -> dict[int, int]:
        return {category_id: label for label, category_id in enumerate(self.category_ids)}

    def to_labels(self, category_ids: Iterable[int]) -> np.ndarray:
        """Category ids [N] -> labels [N] int32; an id that is not in the map is a UserError."""
        try:
            return np.array([self._label_of[int(i)] for i in category_ids], np.int32)
        except KeyError as missing:
            raise UserError(self._unknown(missing.args[0])) from None

    def to_category_ids(self, labels: Iterable[int]) -> np.ndarray:
        """Label [N] in 0..K-1 -> category ids [N] int64; any other label is a UserError."""
        return np.asarray(self.category_ids, np.int64)[_checked(labels, len(self))]

    def with_gaps(self, num_classes: int) -> "LabelMap":
        """Return the layout label = category id - 1, for ids 1..num_classes.

        Published COCO models have this layout: 90 outputs for 80 categories. An id without a
        category gets a name such as "unused-12" and never occurs in the data.
        """
        highest, lowest = max(self.category_ids), min(self.category_ids)
        if lowest < 1 or highest > num_classes:
            raise UserError(
                f"category ids {lowest}..{highest} do not fit a layout of {num_classes} classes "
                f"with label = id - 1, which needs ids 1..{num_classes}; use contiguous labels"
            )
        name_of = dict(zip(self.category_ids, self.names, strict=True))
        ids = tuple(range(1, num_classes + 1))
        return LabelMap(ids, tuple(name_of.get(i, placeholder(i)) for i in ids))

    def to_json(self) -> dict[str, list]:
        """Return a dict for ``json.dump``; ``from_json`` is the inverse."""
        return {"category_ids": list(self.category_ids), "names": list(self.names)}

    @classmethod
    def from_json(cls, value: Mapping[str, Sequence]) -> "LabelMap":
        """Return the label map that ``to_json`` wrote."""
        return cls(tuple(int(i) for i in value["category_ids"]), tuple(value["names"]))

    @classmethod
    def from_coco_categories(cls, categories: Iterable[Mapping[str, Any]]) -> "LabelMap":
        """COCO's ``categories`` list -> contiguous labels in the order of the category id."""
        ordered = sorted(categories, key=lambda category: category["id"])
        return cls(tuple(c["id"] for c in ordered), tuple(c["name"] for c in ordered))

    def _unknown(self, category_id: int) -> str:
        nearest = min(self.category_ids, key=lambda i: (abs(i - category_id), i))
        name = self.names[self._label_of[nearest]]
        return (
            f"category id {category_id} is not among the {len(self)} categories "
            f"(ids {min(self.category_ids)}..{max(self.category_ids)}, the nearest is {nearest} "
            f"{name!r}); correct the id or add the category"
        )


@dataclass(frozen=True)
class ResultIds:
    """Category ids of an annotation file that may lack some classes of a model.

    Attributes:
        category_ids: the id of each label in the file, or None if the file has no such category.
    """

    category_ids: tuple[int | None, ...]

    def to_category_ids(self, labels: Iterable[int]) -> np.ndarray:
        """Label [N] -> ids or None [N], as objects; a label out of range is a UserError."""
        ids = np.array(self.category_ids, object)
        return ids[_checked(labels, len(ids))]


def placeholder(category_id: int) -> str:
    """Return the name of an output without a category; see ``LabelMap.with_gaps``."""
    return f"unused-{category_id}"


def _checked(labels: Iterable[int], count: int) -> np.ndarray:
    labels = np.asarray(labels, np.int64).reshape(-1)
    outside = labels[(labels < 0) | (labels >= count)]
    if outside.size:
        raise UserError(
            f"label {outside[0]} is not one of the {count} labels 0..{count - 1}; "
            "use the label map that the model was trained with"
        )
    return labels


def _refuse_repeats(values: Sequence, what: str) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise UserError(f"label map: {what} {value!r} occurs twice; make each one different")
        seen.add(value)
