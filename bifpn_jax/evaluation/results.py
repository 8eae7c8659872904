"""Detections in COCO's results format, and the two files that an evaluation writes.

``detections.json`` is a list of ``{image_id, category_id, bbox, score}`` with boxes as x, y, width,
height, the format of the COCO server; ``metrics.json`` is ``CocoMetrics.to_json()``.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bifpn_jax.boxes import to_xywh
from bifpn_jax.data.label_map import LabelIds
from bifpn_jax.errors import UserError
from bifpn_jax.evaluation.metrics import CocoMetrics
from bifpn_jax.json_files import read_json, replace_text
from bifpn_jax.postprocessing import Detections

EVALUATION_FILE = "metrics.json"


def coco_results(
    image_id: int, detections: Detections, label_map: LabelIds
) -> list[dict[str, Any]]:
    """Return the detections of one image as COCO results, in the given order, without empty slots.

    Args:
        image_id: the id in the annotation file.
        detections: numpy arrays: boxes [D, 4] yxyx in pixels of the original image, scores [D],
            labels [D] with -1 for an empty slot.
        label_map: maps each label to its category id, or to None to drop it.

    Returns:
        One dict per detection. Boxes are rounded to 0.001 pixel, scores to 1e-8.

    Raises:
        UserError: a box or a score is not finite.
    """
    used = np.asarray(detections.labels) >= 0
    boxes = np.asarray(detections.boxes, np.float64)[used]
    scores = np.asarray(detections.scores, np.float64)[used]
    labels = np.asarray(detections.labels)[used]
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise UserError(
            f"a detection in image {image_id} is not a finite number: the weights have diverged or "
            "do not belong to this model; evaluate an earlier checkpoint"
        )
    return [
        {
            "image_id": int(image_id),
            "category_id": category_id,
            "bbox": box,
            "score": score,
        }
        for category_id, box, score in zip(
            label_map.to_category_ids(labels).tolist(),
            to_xywh(boxes).round(3).tolist(),
            scores.round(8).tolist(),
            strict=True,
        )
        if category_id is not None
    ]


def write_detections(path: str | Path, detections: list[dict[str, Any]]) -> None:
    """Write COCO results, one detection per line."""
    lines = (json.dumps(detection, allow_nan=False) for detection in detections)
    replace_text(path, "[\n" + ",\n".join(lines) + "\n]\n" if detections else "[]\n")


def read_detections(path: str | Path) -> list[dict[str, Any]]:
    """Read a COCO results file; raise a UserError if it is not one."""
    detections = read_json(path)
    if not isinstance(detections, list):
        raise UserError(f"{path} is not a COCO results file: it must hold a list of detections")
    check_results(detections, f" of {path}")
    return detections


def check_results(detections: Sequence[Mapping[str, Any]], source: str = "") -> None:
    """Raise a UserError unless all are detections in COCO's results format.

    Args:
        detections: should be dicts with integer image_id and category_id, bbox and score.
        source: what follows "detection 1" in the message, such as " of detections.json".
    """
    for number, detection in enumerate(detections, start=1):
        try:
            x, y, width, height = detection["bbox"]
            sound = all(map(math.isfinite, (x, y, width, height, detection["score"])))
            sound &= all(isinstance(detection[key], int) for key in ("image_id", "category_id"))
        except (KeyError, TypeError, ValueError, OverflowError):
            sound = False
        if not sound:
            raise UserError(
                f"detection {number}{source} is not in COCO's results format; it needs image_id, "
                "category_id, bbox (four numbers) and score"
            )


def write_metrics(path: str | Path, metrics: CocoMetrics, **facts: Any) -> None:
    """Write the metrics as one JSON object, NaN as null.

    Args:
        path: the file.
        metrics: the metrics.
        **facts: facts about them, such as ``step=800``, which are written first.
    """
    replace_text(path, json.dumps({**facts, **metrics.to_json()}, indent=2, allow_nan=False) + "\n")


def read_metrics(path: str | Path) -> CocoMetrics:
    """Read what ``write_metrics`` wrote; raise a UserError if the file is anything else."""
    try:
        return CocoMetrics.from_json(read_json(path))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} does not hold the metrics of an evaluation: {error}") from error


def evaluated_step(path: str | Path) -> int | None:
    """Return the fact ``step`` that ``write_metrics`` wrote; None without file or fact."""
    if not Path(path).exists():
        return None
    values = read_json(path)
    return values.get("step") if isinstance(values, dict) else None
