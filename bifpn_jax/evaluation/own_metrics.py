"""User-defined metrics, in addition to COCO's.

A metric is a function (ground_truth, detections) -> {name: number}. The ground truth has the form
of a COCO annotation file and the detections COCO's results format, both for the evaluated images.
The config names the function, `eval.metrics=("FILE.py:NAME",)`, and a number that it returns may be
`checkpoint.best_metric`.
"""

import math
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bifpn_jax.errors import UserError
from bifpn_jax.evaluation.metrics import SUMMARY_NAMES, CocoMetrics
from bifpn_jax.named_parts import is_code, load_code, reported

# The names that an evaluation already uses: COCO's metrics, at any limit and for raw weights, and
# facts about them.
_FACTS = (
    *(*CocoMetrics.__dataclass_fields__, "step", "evaluated_with", "num_classes"),
    *("weights", "checkpoint", "ema", "data"),
)
_TAKEN = re.compile("|".join([*_FACTS, *SUMMARY_NAMES, r"AR\d+", "not_evaluated", "raw_.*"]))

Metric = Callable[[Mapping[str, Any], list[dict[str, Any]]], Mapping[str, float]]


def find_metric(name: str | Metric) -> Metric:
    """Return the metric at a place in user code, or the function itself.

    Raises:
        UserError: the name is not a place in user code, or cannot be used.
    """
    if callable(name):
        return name
    if not is_code(name):
        raise UserError(
            f"metrics={name!r}: COCO's metrics are always there; name code of your own, "
            "FILE.py:NAME, for others."
        )
    metric = load_code(name)
    if not callable(metric):
        raise UserError(
            f"metrics={name}: this is a {type(metric).__name__}; name a function "
            "(ground_truth, detections) -> {name: number}."
        )
    return metric


def metric_names(
    metrics: Sequence[str | Metric], ground_truth: Mapping[str, Any]
) -> list[str] | None:
    """Return the names that metrics return for no detections; None if they cannot be known so.

    A metric that fails or returns nothing then may still return something for detections.
    """
    try:
        found = [list(own_metrics([metric], ground_truth, [])) for metric in metrics]
    except UserError:
        return None
    return [name for names in found for name in names] if all(found) else None


def own_metrics(
    metrics: Sequence[str | Metric],
    ground_truth: Mapping[str, Any],
    detections: list[dict[str, Any]],
) -> dict[str, float | None]:
    """Return the values of all these metrics by name; None for those that are not finite.

    Raises:
        UserError: a metric fails, returns anything but numbers, or a name that is taken.
    """
    found: dict[str, float | None] = {}
    for metric in metrics:
        values = _values(metric, ground_truth, detections)
        if not isinstance(values, Mapping):
            raise UserError(f"metric {metric} returns {values!r}; return {{name: number}}.")
        for name, value in values.items():
            if not isinstance(name, str) or not name:
                raise UserError(f"metric {metric}: {name!r} is no name; return {{name: number}}.")
            if name in found or _TAKEN.fullmatch(name):
                raise UserError(f"metric {metric}: there is a metric {name!r} already; rename it.")
            try:
                number = float(value)
            except (TypeError, ValueError):
                raise UserError(f"metric {metric}: {name}={value!r} is not a number.") from None
            found[name] = number if math.isfinite(number) else None
    return found


def _values(
    metric: str | Metric, ground_truth: Mapping[str, Any], detections: list[dict[str, Any]]
) -> Any:
    function = find_metric(metric)
    # Copies, because detections are written to a file afterwards, whatever a metric does to them.
    given = pickle.loads(pickle.dumps((ground_truth, detections)))
    with reported(f"metric {metric}"):
        return function(*given)
