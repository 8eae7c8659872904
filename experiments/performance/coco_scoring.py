"""Scoring detections against a COCO file."""

import contextlib
import io
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bifpn_jax.errors import UserError
from bifpn_jax.evaluation.coco_eval import evaluate_detections
from bifpn_jax.evaluation.metrics import SUMMARY_NAMES
from experiments.performance.contest import OURS, Contest, compete
from experiments.performance.options import Options

_IMAGES, _CLASSES, _DETECTIONS = 1500, 80, 100


def coco_evaluation(options: Options) -> list[Contest]:
    """Score 1,500 images with a hundred detections each, with pycocotools and with our code.

    Raises:
        UserError: one of the twelve numbers differs.
    """
    truth, found = made_up(_IMAGES)
    wanted = with_pycocotools(truth, found)
    summary = evaluate_detections(truth, found).summary
    ours = [summary[name] for name in SUMMARY_NAMES]
    if not np.allclose(ours, wanted, rtol=0, atol=1e-12):
        raise UserError(f"the evaluation gives {ours}, pycocotools {wanted}: report this, please.")
    contestants = {
        OURS: lambda: evaluate_detections(truth, found),
        "pycocotools": lambda: with_pycocotools(truth, found),
    }
    work = f"COCO evaluation, {_IMAGES} images"
    remarks = ("the twelve numbers agree within 1e-12",)
    rounds = min(options.rounds, 5)
    return [compete(work, contestants, rounds=rounds, warmup=0, remarks=remarks)]


def with_pycocotools(truth: dict[str, Any], found: list[dict[str, Any]]) -> list[float]:
    """Return the twelve numbers of the reference evaluator, used as in its manual."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        engine = COCOeval(coco, coco.loadRes([dict(entry) for entry in found]), "bbox")
        engine.evaluate()
        engine.accumulate()
        engine.summarize()
    return [float(value) for value in engine.stats]


def made_up(images: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return ground truth with about seven objects per image, and detections near and off them."""
    rng = np.random.default_rng(0)
    annotations, found = [], []
    for image_id in range(1, images + 1):
        count = 1 + rng.poisson(6)
        sides = np.exp(rng.uniform(np.log(8), np.log(300), (count, 2)))
        boxes = np.concatenate([rng.uniform(0, 340, (count, 2)), sides], 1)
        labels = rng.integers(1, _CLASSES + 1, count)
        for box, label in zip(boxes, labels, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": int(label),
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3]),
                    "iscrowd": int(rng.random() < 0.02),
                }
            )
        chosen = rng.integers(0, count, _DETECTIONS)
        right = rng.random(_DETECTIONS) < 0.3
        near = boxes[chosen] * rng.uniform(0.8, 1.25, (_DETECTIONS, 4))
        guesses = np.where(right, labels[chosen], rng.integers(1, _CLASSES + 1, _DETECTIONS))
        scores = rng.random(_DETECTIONS)
        found += [
            {"image_id": image_id, "category_id": int(k), "bbox": box, "score": score}
            for k, box, score in zip(guesses, near.tolist(), scores.tolist(), strict=True)
        ]
    truth = {
        "images": [{"id": i, "width": 640, "height": 640} for i in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, _CLASSES + 1)],
    }
    return truth, found
