"""The numbers of an evaluation as a table for a person to read."""

import math

from bifpn_jax.evaluation.metrics import CocoMetrics

# What each of the twelve numbers is: IoU, size of the objects in pixels, detections per image.
_MEANING = {
    "AP": "average precision, mean over IoU 0.50:0.95",
    "AP50": "at IoU 0.50",
    "AP75": "at IoU 0.75",
    "APs": "small objects, area under 32² pixels",
    "APm": "medium objects",
    "APl": "large objects, area over 96² pixels",
    "AR1": "average recall with 1 detection per image",
    "AR10": "with 10",
    "AR100": "with 100",
    "ARs": "small objects",
    "ARm": "medium objects",
    "ARl": "large objects",
}
_WIDTH = 100


def metrics_table(metrics: CocoMetrics) -> str:
    """The twelve numbers with what they mean, then AP per class, in per cent; "-" is undefined."""
    lines = [f"{metrics.num_images} images, {metrics.num_detections} detections", ""]
    for name, meaning in _MEANING.items():
        lines.append(f"{name:<6}{_percent(metrics.summary[name])}  {meaning}")
    lines += ["", "AP per class", *_columns(metrics.per_class)]
    return "\n".join(lines)


def _columns(values: dict[str, float]) -> list[str]:
    """Cells "name value" in as many columns as fit, read downwards."""
    longest = max(map(len, values))
    cells = [f"{name:<{longest}}  {_percent(value)}" for name, value in values.items()]
    columns = max(1, (_WIDTH + 4) // (longest + 2 + 5 + 4))
    rows = math.ceil(len(cells) / columns)
    return ["    ".join(cells[row::rows]) for row in range(rows)]


def _percent(value: float) -> str:
    return "    -" if math.isnan(value) else f"{100 * value:5.1f}"
