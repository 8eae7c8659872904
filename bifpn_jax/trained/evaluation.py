"""Scores a trained detector on a dataset."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from bifpn_jax.data.records import Source
from bifpn_jax.data.sources.relabelling import Relabelled, result_ids
from bifpn_jax.evaluation.coco_eval import evaluate_detections
from bifpn_jax.evaluation.evaluator import detect_all, without_images
from bifpn_jax.evaluation.metrics import CocoMetrics
from bifpn_jax.evaluation.own_metrics import Metric, find_metric, own_metrics
from bifpn_jax.inference import PREDICT_FIELDS, predict_step
from bifpn_jax.models.detector import make_anchors
from bifpn_jax.postprocessing import Detections
from bifpn_jax.train import devices
from bifpn_jax.trained.detector import Detector, check_detector

# From variables and a batch on the devices to detections.
Step = Callable[[Any, Any], Detections]

_BATCH_SIZE = 16
_BOXES_IN_BATCH = 1  # nothing here reads the boxes of a batch


class Evaluation(NamedTuple):
    """The results of an evaluation, and its speed.

    Attributes:
        metrics: COCO's metrics.
        detections: the detections in COCO's results format.
        images_per_second: speed of loading, network and post-processing, without the first batch,
            which compiles; NaN if there is only one batch.
        skipped: ids of bad images that were found during the evaluation and are not in the metrics.
        own: the values of user-defined metrics by name; None for those that are not finite.
    """

    metrics: CocoMetrics
    detections: list[dict[str, Any]]
    images_per_second: float
    skipped: list[int]
    own: dict[str, float | None]


def evaluate_detector(
    detector: Detector,
    source: Source,
    *,
    metrics: Sequence[str | Metric] = (),
    batch_size: int = 0,
    bad_images: str = "error",
    num_threads: int | None = None,
    progress: bool = False,
    around_step: Callable[[Step], Step] = lambda step: step,
) -> Evaluation:
    """Evaluate a detector on a dataset, on all devices of this process.

    Args:
        detector: the detector, with the settings of its post-processing.
        source: the data, such as `CocoJson(images, annotations)` from `data.sources.coco_folder`.
            The detector must have all categories, by name, that are annotated; results use the
            source's category ids.
        metrics: user-defined ones, in addition to COCO's: functions (ground_truth, detections) ->
            {name: number}, or their places `FILE.py:NAME`, which `bifpn_jax.trust_code` has to
            allow first.
        batch_size: images per batch, rounded up to what the devices can share; 0 for the batch size
            of the evaluations in the detector's run.
        bad_images: "error" stops at an image that cannot be read, "skip" continues without it.
        num_threads: number of threads that read images; None for one per CPU.
        progress: whether to show a progress bar if stderr is a terminal.
        around_step: wraps the compiled step, for example to report compilation.

    Raises:
        UserError: the detector does not have a category that the dataset uses, an image is bad, or
            a metric does not work.
    """
    # Imports grain, which takes long.
    from bifpn_jax.data.pipeline import eval_batches

    check_detector(detector)
    for metric in metrics:
        find_metric(metric)  # for what it refuses
    batch_size = batch_size or detector.config.get("eval", {}).get("batch_size", _BATCH_SIZE)
    source = Relabelled(source, detector.label_map)
    batches = eval_batches(
        source,
        batch_size=devices.round_up_batch_size(batch_size),
        image_hw=detector.image_hw,
        max_boxes=_BOXES_IN_BATCH,
        antialias=detector.antialias,
        bad_images=bad_images,
        num_threads=num_threads,
    )
    step = partial(
        predict_step,
        model=detector.model,
        anchors=make_anchors(detector.model, detector.image_hw),
        **detector.postprocessing,
    )
    step = around_step(devices.map_predict_step(step))
    variables = devices.replicate(detector.variables)
    start, warm_up = None, 0

    def predict(batch: Mapping[str, np.ndarray]) -> Detections:
        nonlocal start, warm_up
        detections = step(variables, devices.split(batch, PREDICT_FIELDS))
        if start is None:
            jax.block_until_ready(detections)
            start, warm_up = time.monotonic(), int(batch["mask"].sum())
        return detections

    truth = source.ground_truth()
    detections, skipped = detect_all(
        predict, truth, batches, label_map=result_ids(source), progress=progress
    )
    timed = len(source) - warm_up
    speed = timed / (time.monotonic() - start) if timed else float("nan")
    truth = without_images(truth, skipped)
    limit = detector.postprocessing["max_detections"]
    found = evaluate_detections(truth, detections, max_detections=limit)
    own = own_metrics(metrics, truth, detections)
    return Evaluation(found, detections, speed, skipped, own)
