"""The schema of the TFDS datasets that this project's builders write.

It is the usual schema of TFDS detection sets (COCO, VOC, ...): ``image`` and a sequence ``objects``
with ``bbox`` (``[y0, x0, y1, x1]`` relative to the image) and ``label``; in addition ``image/id``,
``image/filename``, ``objects/is_crowd``, ``objects/area`` and ``annotations``.
"""

import json
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from bifpn_jax.data.records import Record


def detection_features(names: tuple[str, ...]) -> tfds.features.FeaturesDict:
    """Return the schema of this project's builders.

    In addition to the usual fields it stores the objects of an image as the JSON text of their COCO
    annotations: TFDS stores every float in 32 bits, and evaluation should see the exact numbers.
    """
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "image/filename": tfds.features.Text(),
            "image/id": np.int64,
            "objects": tfds.features.Sequence(
                {
                    "id": np.int64,
                    "bbox": tfds.features.BBoxFeature(),
                    "area": np.float32,
                    "label": tfds.features.ClassLabel(names=names),
                    "is_crowd": np.bool_,
                }
            ),
            "annotations": tfds.features.Text(),
        }
    )


def to_example(record: Record, annotations: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a record in the form that a builder with ``detection_features`` yields.

    Args:
        record: a record with a known ``original_hw``.
        annotations: the COCO annotations of its objects, in the same order.
    """
    height, width = record.original_hw
    relative = record.boxes / np.array([height, width, height, width], np.float32)[None]
    return {
        "image": record.encoded,
        "image/filename": record.where,
        "image/id": int(record.image_id),
        "objects": [
            {
                "id": annotation["id"],
                "bbox": tfds.features.BBox(*np.clip(relative[i], 0, 1).tolist()),
                "area": float(record.area[i]),
                "label": int(record.labels[i]),
                "is_crowd": bool(record.is_crowd[i]),
            }
            for i, annotation in enumerate(annotations)
        ],
        "annotations": json.dumps(annotations),
    }
