"""Matches the variables of a model with the entries of a file, and explains differences."""

import re
from typing import NamedTuple

import numpy as np
from flax import traverse_util

from bifpn_jax.errors import UserError
from bifpn_jax.models import initial_values
from bifpn_jax.models.backbones.efficientnet import Classifier
from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.weights.formats.opening import WeightFile
from bifpn_jax.weights.naming.scheme import Path

_IMAGENET_HEAD = ("head_conv", "head_bn", "classifier")
_LEFT_OUT = "skipped, as requested"


class Resized(NamedTuple):
    """The reason for another number of outputs: `what`, "classes" or "anchors", differs."""

    what: str
    theirs: int
    ours: int

    def __str__(self) -> str:
        return f"another number of {self.what}: {self.theirs} in the file, {self.ours} in the model"


class Match(NamedTuple):
    """Result of `match_names`; paths begin with the collection.

    Attributes:
        shapes: {path: shape} of all variables of the model.
        values: {path: array} of variables with values from the file.
        initial: {path: reason} of variables without values from the file.
        resized: {path: reason} of those that the file has with another number of outputs.
        unused: {entry of the file: reason} of entries that no variable uses.
        problem: what is wrong, to follow the name of the file; "" if nothing is.
    """

    shapes: dict[Path, tuple[int, ...]]
    values: dict[Path, np.ndarray]
    initial: dict[Path, str]
    resized: dict[Path, "Resized"]
    unused: dict[str, str]
    problem: str


def variable_shapes(model: EfficientDet | Classifier) -> dict[Path, tuple[int, ...]]:
    """Return {(collection, module, …, leaf): shape} of a model's variables, without computing."""
    variables = traverse_util.flatten_dict(initial_values.variable_shapes(model))
    return {path: leaf.shape for path, leaf in variables.items()}


def match_names(
    file: WeightFile, model: EfficientDet | Classifier, only: str | None = None
) -> Match:
    """Find the value of every variable of a model in a file.

    Args:
        file: opened weights.
        model: the model to fill.
        only: regular expression of the paths, without the collection, to fill; None for all.
    """
    shapes = variable_shapes(model)
    wanted = _only(only, shapes)
    values, initial, resized, missing, misfits, used = {}, {}, {}, [], [], {}
    for path, shape in shapes.items():
        part = "classifier" if path[1] in _IMAGENET_HEAD else path[1]
        if part not in file.scheme.parts:
            initial[path] = "the file has the backbone only"
            continue
        names = file.scheme.entries(path[1:], model, file.entries.keys())
        if path not in wanted:
            initial[path] = _LEFT_OUT
            used |= dict.fromkeys(names, _LEFT_OUT)
            continue
        if not names:
            missing.append(f"anything for {'/'.join(path[1:])}")
            continue
        if absent := [name for name in names if name not in file.entries]:
            missing += absent
            continue
        value = file.scheme.convert([file.entries[name] for name in names], path[1:])
        if value.shape != shape:
            other = _other_predictor(path, value.shape, shape, file, model)
            if other:
                initial[path] = str(other)
                resized[path] = other
            else:
                misfits.append(f"{names[0]} gives {value.shape}, the model has {shape}")
            used |= dict.fromkeys(names, str(other) if other else "")
            continue
        values[path] = value
        used |= dict.fromkeys(names, "")
    unused = {name: reason for name, reason in used.items() if reason and name in file.entries}
    reasons = {name: file.scheme.unused(name) for name in file.entries if name not in used}
    if only is not None:
        # If anything in a module is used, all of the file's entries in it must fit.
        taken = {_module(name) for name, reason in used.items() if not reason}
        reasons |= dict.fromkeys(
            (name for name, reason in reasons.items() if not reason and _module(name) not in taken),
            _LEFT_OUT,
        )
    unused |= {name: reason for name, reason in reasons.items() if reason}
    left_over = [name for name, reason in reasons.items() if not reason]
    problem = _problem(missing, left_over, misfits)
    if not problem and not values:
        problem = "has nothing for this model"
    return Match(shapes, values, initial, resized, unused, problem)


def _only(only: str | None, shapes: dict[Path, tuple[int, ...]]) -> set[Path]:
    if only is None:
        return set(shapes)
    try:
        pattern = re.compile(only)
    except re.error as error:
        raise UserError(f"only={only!r} is not a regular expression ({error}).") from error
    wanted = {path for path in shapes if pattern.match("/".join(path[1:]))}
    if not wanted:
        parts = ", ".join(dict.fromkeys(path[1] for path in shapes))
        raise UserError(f"only={only!r} matches no variable; their paths begin with {parts}.")
    return wanted


def _module(name: str) -> str:
    """Return the outermost module in an entry's name, in any of the schemes."""
    return re.match(r"((params|batch_stats)/)?[^./]*", name)[0]


def _other_predictor(
    path: Path,
    theirs: tuple[int, ...],
    ours: tuple[int, ...],
    file: WeightFile,
    model: EfficientDet | Classifier,
) -> Resized | None:
    """Return why a predictor has another number of outputs, None if anything else differs."""
    if theirs[:-1] != ours[:-1] or len(theirs) != len(ours):
        return None
    if path[1] == "classifier":
        return Resized("classes", theirs[-1], ours[-1])
    if path[2] != "predictor" or theirs[-1] != num_outputs(file, model, path[1]):
        return None
    anchors = model.num_scales * len(model.aspect_ratios)
    filed = num_anchors(file, model)
    if filed != anchors:
        return Resized("anchors", filed, anchors)
    if path[1] != "class_head" or theirs[-1] % anchors:
        return None
    return Resized("classes", theirs[-1] // anchors, model.num_classes)


def num_anchors(file: WeightFile, model: EfficientDet) -> int:
    """Return the anchors per location of a file: a quarter of the box predictor's outputs."""
    return num_outputs(file, model, "box_head") // 4


def num_outputs(file: WeightFile, model: EfficientDet, head: str) -> int:
    """Return the number of outputs of a head's predictor in a file, 0 if there is none."""
    path = (head, "predictor", "pointwise", "bias")
    (name,) = file.scheme.entries(path, model, file.entries.keys())
    return np.size(file.entries.get(name, ()))


def _problem(missing: list[str], left_over: list[str], misfits: list[str]) -> str:
    for what, entries in (
        ("lacks", missing),
        ("has entries that the model lacks:", left_over),
        ("does not fit:", misfits),
    ):
        if entries:
            more = f" and {len(entries) - 1} more" if len(entries) > 1 else ""
            return f"{what} {entries[0]}{more}"
    return ""
