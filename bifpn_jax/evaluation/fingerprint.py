"""What an evaluation's numbers are of: only those of equal data and settings can be compared."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def ground_truth_fingerprint(ground_truth: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that depend on what is to be found in which images.

    Ids and sizes of the images, categories, boxes, areas and crowds count; file names, the ids of
    annotations and the order of all of them do not, so that data may move. Pixels are not read.

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
    """16 hexadecimal digits that depend on a value that JSON can hold."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
