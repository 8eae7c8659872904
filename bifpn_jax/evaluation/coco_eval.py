"""COCO's average precision and recall for boxes.

The numbers are those of the official evaluator (Lin et al., arXiv 1405.0312, and
https://cocodataset.org/#detection-eval): crowds and objects outside an area range are neither hits
nor misses, and the area ranges use the annotated area, not that of the box.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bifpn_jax.data.coco.coco_file import read_annotation_file, unique_ids
from bifpn_jax.errors import UserError
from bifpn_jax.evaluation.coco_engine import match_and_accumulate
from bifpn_jax.evaluation.metrics import (
    COCO_LIMIT,
    CocoMetrics,
    detection_limits,
    summary_names,
)
from bifpn_jax.evaluation.results import check_results


def evaluate_detections(
    ground_truth: Mapping[str, Any] | str | Path,
    detections: Sequence[Mapping[str, Any]],
    *,
    image_ids: Iterable[int] | None = None,
    max_detections: int = COCO_LIMIT,
) -> CocoMetrics:
    """Score detections against a COCO annotation file or its content.

    Args:
        ground_truth: a dict with ``images``, ``annotations`` and ``categories``, or the path of
            such a JSON file; it is not modified. An annotation without ``area`` gets that of its
            box, and one without ``iscrowd`` is not a crowd.
        detections: in COCO's results format: ``image_id``, ``category_id``, ``bbox`` (x, y, width,
            height in pixels of the original image) and ``score``. May be empty. Categories that
            the ground truth does not have are ignored.
        image_ids: the images to evaluate, all of the ground truth by default. Ground truth and
            detections of other images are ignored.
        max_detections: how many detections, those with the highest scores, count per image and
            class. AP is at this limit; AR100, AR10 and AR1 are capped at it, and with 150, for
            example, AR150 is the recall at the limit.

    Returns:
        The metrics, with NaN where the ground truth does not define a number.

    Raises:
        UserError: the ground truth is unreadable or incomplete, a detection or ``image_ids`` names
            an image that it does not have, or no detection is of one of its categories.
    """
    if max_detections < 1:
        raise UserError(f"max_detections is {max_detections}; it must be at least 1")
    truth, source = _open_ground_truth(ground_truth)
    known_images = set(unique_ids(source, "images", truth["images"]).tolist())
    unique_ids(source, "categories", truth["categories"])
    names = {c["id"]: str(c.get("name", c["id"])) for c in truth["categories"]}
    found = _result_annotations(detections, known_images, set(names), source)
    evaluated = _evaluated_images(image_ids, known_images, source)
    objects = _truth_annotations(truth["annotations"], source)

    precision, recall = match_and_accumulate(
        truth["images"],
        truth["categories"],
        objects,
        found,
        image_ids=evaluated,
        max_detections=max_detections,
    )
    chosen = set(evaluated)
    ap_of_class = [_mean(precision[:, :, k, 0, -1]) for k in range(precision.shape[2])]
    return CocoMetrics(
        summary=_summary(precision, recall, max_detections),
        per_class=dict(zip(_unique_names(names), ap_of_class, strict=True)),
        num_images=len(evaluated),
        num_detections=sum(detection["image_id"] in chosen for detection in found),
        max_detections=max_detections,
    )


def _summary(precision: np.ndarray, recall: np.ndarray, max_detections: int) -> dict[str, float]:
    """Average precision [IoU, recall, class, area, limit] and recall, which lacks that axis."""
    every, small, medium, large = range(4)
    limits = detection_limits(max_detections)
    first, ten, hundred = (limits.index(min(limit, max_detections)) for limit in (1, 10, 100))
    values = (
        _mean(precision[:, :, :, every, -1]),
        _mean(precision[0, :, :, every, -1]),  # IoU 0.50
        _mean(precision[5, :, :, every, -1]),  # IoU 0.75
        _mean(precision[:, :, :, small, -1]),
        _mean(precision[:, :, :, medium, -1]),
        _mean(precision[:, :, :, large, -1]),
        _mean(recall[:, :, every, first]),
        _mean(recall[:, :, every, ten]),
        _mean(recall[:, :, every, hundred]),
        _mean(recall[:, :, small, -1]),
        _mean(recall[:, :, medium, -1]),
        _mean(recall[:, :, large, -1]),
        _mean(recall[:, :, every, -1]),
    )
    # The last has a separate name only if the limit is not one of COCO's.
    return dict(zip(summary_names(max_detections), values, strict=False))


def _mean(values: np.ndarray) -> float:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else math.nan


def _open_ground_truth(
    ground_truth: Mapping[str, Any] | str | Path,
) -> tuple[Mapping[str, Any], str]:
    """Return the annotation dict and what to call it in a message."""
    if not isinstance(ground_truth, Mapping):
        return read_annotation_file(Path(ground_truth), "annotations"), str(ground_truth)
    for key in ("images", "annotations", "categories"):
        entries = ground_truth.get(key)
        if not isinstance(entries, list) or not all(isinstance(e, Mapping) for e in entries):
            raise UserError(
                f"the ground truth has no list called {key!r} of objects; give the content of a "
                "COCO annotation file, with images, annotations and categories"
            )
    return ground_truth, "the ground truth"


def _truth_annotations(annotations: list[Mapping[str, Any]], source: str) -> list[dict[str, Any]]:
    """Return the part of each annotation that matters for boxes, complete and with ids from 1 on.

    The ids are renumbered because pycocotools takes a match with the object of id 0 for no match.
    """
    complete = []
    for number, annotation in enumerate(annotations, start=1):
        area, crowd = annotation.get("area"), annotation.get("iscrowd")
        image_id, category_id = annotation.get("image_id"), annotation.get("category_id")
        try:
            x, y, width, height = box = annotation["bbox"]
            area = width * height if area is None else area
            sound = all(map(math.isfinite, (x, y, width, height, area)))
        except (KeyError, TypeError, ValueError, OverflowError):
            sound = False
        sound &= isinstance(image_id, int) and isinstance(category_id, int)
        if not sound or crowd not in (None, 0, 1):
            raise UserError(
                f"annotation {number} of {source} lacks image_id, category_id or a bbox of four "
                "numbers, or has a wrong area or iscrowd; complete it or remove it"
            )
        complete.append(
            {
                "id": number,
                "image_id": image_id,
                "category_id": category_id,
                "bbox": box,
                "area": area,
                "iscrowd": int(crowd or 0),
            }
        )
    return complete


def _result_annotations(
    detections: Sequence[Mapping[str, Any]],
    known_images: set[int],
    known_categories: set[int],
    source: str,
) -> list[dict[str, Any]]:
    """Check detections and return them in the form that pycocotools gives to a results file.

    Categories that the ground truth does not have are ignored: a published model has outputs for
    ids that COCO does not use, and may be evaluated on only some of its classes.
    """
    check_results(detections)
    found = []
    for number, detection in enumerate(detections, start=1):
        image_id, category_id = detection["image_id"], detection["category_id"]
        box, score = detection["bbox"], detection["score"]
        if image_id not in known_images:
            raise UserError(
                f"detection {number} is on image {image_id}, which {source} does not have; "
                "evaluate the detections against the annotations of the same images"
            )
        if category_id in known_categories:
            found.append(
                {
                    "id": number,
                    "image_id": image_id,
                    "category_id": category_id,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "score": score,
                }
            )
    if detections and not found:
        raise UserError(
            f"{source} has none of the detected categories, such as {detections[0]['category_id']};"
            " use the label map that belongs to these annotations"
        )
    return found


def _evaluated_images(
    image_ids: Iterable[int] | None, known_images: set[int], source: str
) -> list[int]:
    evaluated = sorted(known_images if image_ids is None else {int(i) for i in image_ids})
    unknown = [image_id for image_id in evaluated if image_id not in known_images]
    if unknown:
        raise UserError(
            f"image {unknown[0]} is to be evaluated, but {source} does not have it; evaluate "
            "against the annotations of the images that were run"
        )
    if not evaluated:
        raise UserError(f"there are no images to evaluate in {source}")
    return evaluated


def _unique_names(names: Mapping[int, str]) -> list[str]:
    """Return class names in the order of the category ids, with the id appended to duplicates."""
    uses = Counter(names.values())
    ordered = sorted(names.items())
    return [name if uses[name] == 1 else f"{name} ({category})" for category, name in ordered]
