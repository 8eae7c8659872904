"""Loads weights of any kind into a model, and accounts for every entry on both sides."""

from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from typing import Any

import numpy as np
from flax import traverse_util

from bifpn_jax.errors import UserError
from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.models.efficientnet import Classifier
from bifpn_jax.models.initial_values import initial_values
from bifpn_jax.weights.files import WeightFile, open_weights
from bifpn_jax.weights.identify import fitting_models
from bifpn_jax.weights.matching_names import Match, match_names
from bifpn_jax.weights.report import LoadReport

Variables = dict[str, Any]


def load_weights(
    source: str | FilePath | Mapping[str, np.ndarray] | WeightFile,
    model: EfficientDet | Classifier,
    *,
    only: str | None = None,
    seed: int = 0,
    report: Callable[[LoadReport], object] | None = print,
) -> Variables:
    """Variables of `model` with the values of published or own weights.

    Args:
        source: a path (effdet or timm `.pth` and `.safetensors`, a TensorFlow checkpoint, an
            EfficientDet-Lite `.tflite`, a workdir, a `.safetensors` of this project), the name of
            published weights, or a state dict {name: array} in one of these layouts. Weights of a
            whole detector, or of an ImageNet classifier, which fill the backbone.
        model: the model that they are for. Its number of classes and of anchors may differ: the
            predictors that this changes are new, with kernels of zeros.
        only: regular expression; variables whose path it matches from the start are loaded, the
            others stay new. None loads all there are.
        seed: of the initial values of what is new.
        report: called with the `LoadReport`; None for silence.

    Returns:
        {"params": …, "batch_stats": …}, float32.

    Raises:
        UserError: the source cannot be read; or an entry is missing, left over or of another shape
            and nothing explains it. The message names the model that fits.
    """
    file = source if isinstance(source, WeightFile) else open_weights(source)
    match = match_names(file, model, only)
    if match.problem:
        raise UserError(f"{file.source} {match.problem}; {_cure(file, model)}")
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
    fitting = fitting_models(file, type(model))
    if not fitting:
        return "no released model fits: is the file whole, and of an EfficientDet?"
    return f"the model that fits is {' or '.join(map(str, fitting))}."
