"""Matches the categories of a dataset to the classes of a model by name, whatever their ids."""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np

from bifpn_jax.data.label_map import LabelMap, placeholder

_NAMED = 5  # classes in a message


class ClassMatch(NamedTuple):
    """The categories of a dataset as classes of a model.

    Attributes:
        data: the dataset's own label map.
        model: the model's.
        labels: [K] int32, the model's label for each label of the dataset, -1 if it has none.
        by_id: whether ids were matched because the names of one side are only numbers.
    """

    data: LabelMap
    model: LabelMap
    labels: np.ndarray
    by_id: bool

    @property
    def unknown(self) -> list[int]:
        """The dataset's labels that the model does not have."""
        return np.flatnonzero(self.labels < 0).tolist()

    @property
    def missing(self) -> list[int]:
        """The model's labels that the dataset lacks, ignoring outputs without a category."""
        there = set(self.labels.tolist())
        pairs = enumerate(zip(self.model.category_ids, self.model.names, strict=True))
        return [k for k, (i, name) in pairs if k not in there and name != placeholder(i)]

    def result_ids(self) -> tuple[int | None, ...]:
        """Return the dataset's category id of each label of the model, None if it has none."""
        ids: list[int | None] = [None] * len(self.model)
        for label, category_id in zip(self.labels.tolist(), self.data.category_ids, strict=True):
            if label >= 0:
                ids[label] = category_id
        return tuple(ids)

    def note(self, owner: str) -> str:
        """Return the differences between both sides in one line; "" if there are none to report.

        Args:
            owner: what to call the model's side.
        """
        loose, other_ids = [], []
        for label, (category_id, name) in enumerate(
            zip(self.data.category_ids, self.data.names, strict=True)
        ):
            if (ours := int(self.labels[label])) >= 0:
                if self.model.names[ours] != name:
                    loose.append(f"{name!r} for {self.model.names[ours]!r}")
                if self.model.category_ids[ours] != category_id:
                    here, there = category_id, self.model.category_ids[ours]
                    other_ids.append(f"{name!r}, {here} for {there}")
        parts = []
        if self.by_id:
            parts.append(
                f"categories are matched with {owner} by id, because names are only numbers"
            )
        elif loose:
            parts.append(f"names are matched despite their spelling: {some(loose)}")
        if other_ids:
            parts.append(
                f"{len(other_ids)} of {len(self.data)} categories have other ids than in {owner} "
                f"and are matched by name ({some(other_ids, 1)})"
            )
        if self.unknown:
            names = [repr(self.data.names[label]) for label in self.unknown]
            parts.append(f"unknown to {owner}, but without annotations: {some(names)}")
        if self.missing:
            names = [repr(self.model.names[label]) for label in self.missing]
            parts.append(f"not evaluated, because they are not categories here: {some(names)}")
        return "; ".join(parts)


def match_names(data: LabelMap, model: LabelMap) -> ClassMatch:
    """Match the categories of a dataset to the classes of a model.

    Names are first compared exactly; those left over are compared ignoring case, spaces and
    underscores if that is unambiguous. Ids are compared only if no name is on both sides and the
    names of one side are just its ids ("1", "2", ...).
    """
    of_name = {name: label for label, name in enumerate(model.names)}
    labels = [of_name.get(name, -1) for name in data.names]
    ours, theirs = (Counter(map(_loose, side.names)) for side in (model, data))
    free = {_loose(model.names[k]): k for k in range(len(model)) if k not in set(labels)}
    for label, name in enumerate(data.names):
        key = _loose(name)
        if labels[label] < 0 and key in free and ours[key] == theirs[key] == 1:
            labels[label] = free[key]
    by_id = max(labels) < 0 and _is_numbered(data) != _is_numbered(model)
    if by_id:
        of_id = {category_id: label for label, category_id in enumerate(model.category_ids)}
        labels = [of_id.get(category_id, -1) for category_id in data.category_ids]
    return ClassMatch(data, model, np.array(labels, np.int32), by_id)


def describe(
    labels: Iterable[int], label_map: LabelMap, other: LabelMap, owner: str, used: Collection[str]
) -> str:
    """Name the classes among ``labels`` that have annotations; "" if none has any.

    Args:
        labels: labels of ``label_map``.
        label_map: the side that the classes are on.
        other: the other side, which calls the same id something else or does not have it.
        owner: what to call that other side.
        used: names of the classes with annotations.
    """
    calls = dict(zip(other.category_ids, other.names, strict=True))
    named = []
    for label in labels:
        category_id, name = label_map.category_ids[label], label_map.names[label]
        if name in used:
            called = calls.get(category_id)
            instead = "" if called is None else f", which {owner} calls {called!r}"
            named.append(f"{name!r} (id {category_id}{instead})")
    return some(named)


def some(words: list[str], most: int = _NAMED) -> str:
    """Return the first of some words, and how many there are."""
    more = [f"… {len(words)} in all"] if len(words) > most else []
    return ", ".join([*words[:most], *more])


def _loose(name: str) -> str:
    return "".join(name.casefold().replace("_", " ").split())


def _is_numbered(label_map: LabelMap) -> bool:
    pairs = zip(label_map.category_ids, label_map.names, strict=True)
    return all(name in (str(i), placeholder(i)) for i, name in pairs)
