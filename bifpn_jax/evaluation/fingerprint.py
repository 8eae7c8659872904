"""Fingerprints of evaluation data and settings: only equal ones give comparable metrics."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def ground_truth_fingerprint(ground_truth: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that depend on the objects in each image.

    Ids and sizes of the images, categories, boxes, areas and crowds count. File names, annotation
    ids and the order of all of these do not, so that data may be moved. Pixels are not read.

    Args:
        ground_truth: ``images``, ``annotations`` and ``categories`` as in a COCO file.
    """
    images = sorted(
        (image["id"], image.get("height"), image.get("width")) for image in ground_truth["images"]
    )
    categories = sorted((entry["id"], entry["name"]) for entry in ground_truth["categories"])
    objects = sorted(
        (
            entry["image_id"],
            entry["category_id"],
            *map(float, entry["bbox"]),
            float(entry.get("area", 0.0)),
            int(entry.get("iscrowd", 0)),
        )
        for entry in ground_truth["annotations"]
    )
    return fingerprint([images, categories, objects])


def fingerprint(content: Any) -> str:
    """Return 16 hexadecimal digits that depend on a JSON-compatible value."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
