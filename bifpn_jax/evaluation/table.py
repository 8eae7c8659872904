"""The metrics of an evaluation as a readable table."""

import math
from collections.abc import Mapping

from bifpn_jax.evaluation.metrics import COCO_LIMIT, CocoMetrics, format_score

# What the numbers are: IoU, size of the objects in pixels.
_MEANING = {
    "AP": "average precision, mean over IoU 0.50:0.95",
    "AP50": "at IoU 0.50",
    "AP75": "at IoU 0.75",
    "APs": "small objects, area under 32² pixels",
    "APm": "medium objects",
    "APl": "large objects, area over 96² pixels",
    "AR1": "average recall with 1 detection per image and class",
    "ARs": "small objects",
    "ARm": "medium objects",
    "ARl": "large objects",
}
_WIDTH = 100


def metrics_table(metrics: CocoMetrics, own: Mapping[str, float | None] | None = None) -> str:
    """Return the metrics with their meaning, then AP per class, from 0 to 1; "-" is undefined.

    Args:
        metrics: COCO's.
        own: the values of user-defined metrics, which come between the two.
    """
    counts = f"{metrics.num_images} images, {metrics.num_detections} detections"
    if metrics.max_detections != COCO_LIMIT:
        counts += f"; up to {metrics.max_detections} count per image and class, not {COCO_LIMIT}"
    lines = [counts, ""]
    for name in metrics.printed_names:
        meaning = _MEANING.get(name) or f"with {name.removeprefix('AR')}"
        lines.append(f"{name:<6} {format_score(metrics.summary[name])}  {meaning}")
    if own:
        longest = max(map(len, own))
        values = {name: "-" if value is None else f"{value:.6g}" for name, value in own.items()}
        lines += ["", "your own metrics"]
        lines += [f"{name:<{longest}}  {value}" for name, value in values.items()]
    lines += ["", "AP per class", *_columns(metrics.per_class)]
    return "\n".join(lines)


def _columns(values: dict[str, float]) -> list[str]:
    """Arrange cells "name value" in as many columns as fit, to be read downwards."""
    longest = max(map(len, values))
    cells = [f"{name:<{longest}}  {format_score(value)}" for name, value in values.items()]
    columns = max(1, (_WIDTH + 4) // (max(map(len, cells)) + 4))
    rows = math.ceil(len(cells) / columns)
    return ["    ".join(cells[row::rows]).rstrip() for row in range(rows)]
