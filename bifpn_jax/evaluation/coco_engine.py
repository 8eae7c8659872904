"""The matching and counting of COCO's evaluation, by faster-coco-eval or pycocotools.

Their numbers differ at most by the rounding of a double. pycocotools is the reference and takes
many times as long; it is used if faster-coco-eval is not installed.
"""

import contextlib
import importlib.util
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bifpn_jax.evaluation.metrics import detection_limits

Entries = Sequence[Mapping[str, Any]]


class Engine(NamedTuple):
    """Two classes with pycocotools' interface: for annotation files and for evaluations."""

    index: Callable[[], Any]
    evaluation: Callable[..., Any]


def pycocotools_engine() -> Engine:
    """Return the reference implementation."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return Engine(COCO, COCOeval)


def default_engine() -> Engine:
    """Return the fastest installed implementation."""
    if importlib.util.find_spec("faster_coco_eval") is None:
        return pycocotools_engine()
    from faster_coco_eval import COCO, COCOeval_faster

    return Engine(COCO, COCOeval_faster)


def match_and_accumulate(
    images: Entries,
    categories: Entries,
    objects: Entries,
    found: Entries,
    *,
    image_ids: Sequence[int],
    max_detections: int,
    engine: Engine | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return precision [IoU, recall, class, area, limit] and recall [IoU, class, area, limit].

    They are -1 where there is nothing to find.

    Args:
        images: images of the annotation file.
        categories: categories of the annotation file.
        objects: annotations with id (from 1), image_id, category_id, bbox, area, iscrowd.
        found: detections with the same keys and a score.
        image_ids: images to evaluate.
        max_detections: the highest limit of detections per image and class; the limits are
            ``detection_limits(max_detections)``, and matching ends at the highest.
        engine: None for the fastest installed one.
    """
    engine = engine or default_engine()

    def index(annotations: Entries) -> Any:
        coco = engine.index()
        coco.dataset = {"images": images, "categories": categories, "annotations": annotations}
        coco.createIndex()
        return coco

    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = engine.evaluation(index(objects), index(found), iouType="bbox")
        evaluation.params.imgIds = list(image_ids)
        evaluation.params.maxDets = detection_limits(max_detections)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]
