"""Loads weights of any format into a model, and accounts for every entry on both sides."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

import numpy as np
from flax import traverse_util

from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.errors import UserError
from bifpn_jax.models.backbones.efficientnet import Classifier
from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.models.initial_values import initial_values
from bifpn_jax.weights.formats.opening import WeightFile, open_weights
from bifpn_jax.weights.identify import fitting_models
from bifpn_jax.weights.matching_names import Match, Resized, match_names
from bifpn_jax.weights.report import LoadReport

Variables = dict[str, Any]


def load_weights(
    source: str | FilePath | Mapping[str, np.ndarray] | WeightFile,
    model: EfficientDet | Classifier,
    *,
    only: str | None = None,
    new_classes: bool = False,
    new_anchors: bool = False,
    class_names: Sequence[str] = (),
    seed: int = 0,
    report: Callable[[LoadReport], object] | None = print,
) -> Variables:
    """Return the variables of `model` with the values of published or own weights.

    Args:
        source: a path (effdet or timm `.pth` and `.safetensors`, a TensorFlow checkpoint, an
            EfficientDet-Lite `.tflite`, a workdir, a `.safetensors` of this project), the name of
            published weights, or a state dict {name: array} in one of these layouts. The weights
            are those of a complete detector, or of an ImageNet classifier for the backbone.
        model: the model to fill. `load_detector` makes the one that they were trained with.
        new_classes: whether the model may have another number of classes than the weights; its
            class predictor is then new, with a kernel of zeros, and must be trained.
        new_anchors: the same for the number of anchors, with both predictors.
        class_names: class names of the model. If they differ from those of the weights, or are in
            another order, the weights are treated as having another number of classes.
        only: regular expression; variables whose path it matches from the start are loaded, the
            others stay new. None loads all of them.
        seed: seed of the initial values of new variables.
        report: called with the `LoadReport`; None for silence.

    Returns:
        {"params": …, "batch_stats": …}, float32.

    Raises:
        UserError: the source cannot be read; the number of classes or anchors differs without
            permission; or an entry is missing, left over or of another shape without a known
            reason. The message names the model that fits.
    """
    file = source if isinstance(source, WeightFile) else open_weights(source)
    match = match_names(file, model, only)
    if match.problem:
        raise UserError(f"{file.source} {match.problem}; {_cure(file, model)}")
    match = _without_other_classes(file, match, tuple(class_names))
    _check_predictors(file, match, new_classes=new_classes, new_anchors=new_anchors)
    variables = dict(match.values)
    missing = [path for path in match.shapes if path not in variables]
    if missing:
        variables |= initial_values(model, seed, only=missing)
    for path in match.resized:
        # Random outputs on trained features give losses that undo what was learned.
        if path[-1] == "kernel":
            variables[path] = np.zeros_like(variables[path])
    if report is not None:
        report(_report(file, model, match))
    ordered = {path: variables[path] for path in match.shapes}
    return traverse_util.unflatten_dict(ordered)


def _without_other_classes(file: WeightFile, match: Match, names: tuple[str, ...]) -> Match:
    """Return the match with a new class predictor if the file's classes differ from these."""
    if not names or "label_map" not in file.metadata:
        return match
    theirs = LabelMap.from_json(json.loads(file.metadata["label_map"])).names
    place = ("class_head", "predictor")
    moved = [p for p in match.values if p[1:3] == place and p[3] != "depthwise"]
    if theirs == names or not moved or len(theirs) != len(names):
        return match
    reason = Resized("classes", len(theirs), len(names))
    what = f"other classes: {', '.join(theirs[:3])} … in the file, {', '.join(names[:3])} … here"
    return match._replace(
        values={path: value for path, value in match.values.items() if path not in moved},
        initial=match.initial | dict.fromkeys(moved, what),
        resized=match.resized | dict.fromkeys(moved, reason),
    )


def _check_predictors(
    file: WeightFile, match: Match, *, new_classes: bool, new_anchors: bool
) -> None:
    """Raise a UserError for a predictor that would be new without having been asked for."""
    allowed = {"classes": new_classes, "anchors": new_anchors}
    for what, theirs, ours in match.resized.values():
        if not allowed[what]:
            if theirs == ours:
                raise UserError(
                    f"{file.source} has other {what} than the model: take load_detector for its "
                    f"own, or pass new_{what}=True to train new outputs."
                )
            setting = f"num_classes={theirs}" if what == "classes" else "their anchors"
            raise UserError(
                f"{file.source} has {theirs} {what} and the model {ours}: make the model with "
                f"{setting}, as load_detector does, or pass new_{what}=True to train new outputs."
            )


def _report(file: WeightFile, model: EfficientDet | Classifier, match: Match) -> LoadReport:
    def theirs_and_ours(name: str) -> tuple[Any, Any]:
        return file.settings[name], getattr(model, name)

    different = [
        name for name in file.settings if hasattr(model, name) and not _same(*theirs_and_ours(name))
    ]
    return LoadReport(
        source=file.source,
        label=file.label,
        loaded=tuple("/".join(path[1:]) for path in match.values),
        initial={"/".join(path[1:]): reason for path, reason in match.initial.items()},
        unused=match.unused,
        folded=file.folded,
        differences={name: theirs_and_ours(name) for name in different},
    )


def _same(theirs: Any, ours: Any) -> bool:
    if isinstance(theirs, list | tuple) and isinstance(ours, list | tuple):
        return len(theirs) == len(ours) and all(map(_same, theirs, ours))
    return theirs == ours


def _cure(file: WeightFile, model: EfficientDet | Classifier) -> str:
    if "config" in file.metadata:
        return "load_detector makes the model that these weights were trained with."
    fitting = fitting_models(file, type(model))
    if not fitting:
        return "no released model fits: is the file whole, and of an EfficientDet?"
    return f"the model that fits is {' or '.join(map(str, fitting))}."
