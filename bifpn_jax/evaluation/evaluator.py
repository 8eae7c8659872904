"""Runs a detector over an evaluation set, every image exactly once, and scores the detections."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from tqdm import tqdm

from bifpn_jax.data.label_map import LabelIds
from bifpn_jax.data.rows import NONE_SKIPPED
from bifpn_jax.errors import UserError
from bifpn_jax.evaluation.coco_eval import evaluate_detections
from bifpn_jax.evaluation.metrics import COCO_LIMIT, CocoMetrics
from bifpn_jax.evaluation.results import coco_results
from bifpn_jax.postprocessing import Detections

Batch = Mapping[str, np.ndarray]


class AnnotatedSource(Protocol):
    """Anything that returns its annotations as a COCO dict."""

    def ground_truth(self) -> Mapping[str, Any]:
        """Return ``images``, ``annotations`` and ``categories``."""


def evaluate(
    predict: Callable[[Batch], Detections],
    source: AnnotatedSource,
    batches: Iterable[Batch],
    *,
    label_map: LabelIds,
    max_detections: int = COCO_LIMIT,
    progress: bool = False,
) -> tuple[CocoMetrics, list[dict[str, Any]]]:
    """Detect in all batches and scores the result against the annotations of the source.

    Takes the arguments of `detect_all`, with the source in place of its ground truth, and
    `max_detections` of `evaluate_detections`, which should be that of the post-processing.

    Returns:
        The metrics and the detections in COCO's results format.
    """
    ground_truth = source.ground_truth()
    detections, skipped = detect_all(
        predict, ground_truth, batches, label_map=label_map, progress=progress
    )
    ground_truth = without_images(ground_truth, skipped)
    metrics = evaluate_detections(ground_truth, detections, max_detections=max_detections)
    return metrics, detections


def detect_all(
    predict: Callable[[Batch], Detections],
    ground_truth: Mapping[str, Any],
    batches: Iterable[Batch],
    *,
    label_map: LabelIds,
    progress: bool = False,
    gather_rows: Callable[[list[Any]], list[Any]] | None = None,
) -> tuple[list[dict[str, Any]], list[int]]:
    """Detect in all batches, which together hold every image of the ground truth once.

    Args:
        predict: maps a batch to its detections with a leading [B], jax or numpy arrays, boxes in
            pixels of the original images.
        ground_truth: a COCO dict whose ``images`` must all come up.
        batches: dicts with at least ``image_id`` [B] and ``mask`` [B]; rows with mask False are
            dropped. ``skipped_id`` [B], if present, says which rows replace a bad image.
        label_map: maps labels to the category ids of the ground truth; for a source that was
            matched with the classes of a model, its `result_ids`. Detections of a label without an
            id are dropped.
        progress: whether to show a progress bar if stderr is a terminal.
        gather_rows: if several processes have a share of the batches each, merges the JSON lists
            that they made of their images into one; by default there is one process.

    Returns:
        The detections in COCO's results format, and the ids of the bad images that were skipped,
        which must not be in the ground truth that the detections are compared with.

    Raises:
        UserError: an image came up twice, not at all, or is not in the ground truth.
    """
    expected = {image["id"] for image in ground_truth["images"]}
    # Per image; None for a bad one, so that the lists of all processes still fit together.
    found: list[tuple[int, list[dict[str, Any]] | None]] = []
    with tqdm(
        total=len(expected) if gather_rows is None else None,
        desc="evaluate",
        unit="img",
        disable=None if progress else True,
        leave=False,
    ) as bar:
        for batch, predicted in _one_ahead(predict, batches):
            bad_ids = batch.get("skipped_id", np.full(len(batch["mask"]), NONE_SKIPPED))
            for row in np.flatnonzero(batch["mask"] | (bad_ids != NONE_SKIPPED)):
                if batch["mask"][row]:
                    image_id = int(batch["image_id"][row])
                    in_image = Detections(*(field[row] for field in predicted))
                    found.append((image_id, coco_results(image_id, in_image, label_map)))
                else:
                    found.append((int(bad_ids[row]), None))
                bar.update()
    seen: set[int] = set()
    if gather_rows is not None:
        found = gather_rows(found)
    skipped = [image_id for image_id, detections in found if detections is None]
    for image_id, detections in found:
        if detections is not None:
            _mark_seen(image_id, seen, expected)
    if skipped and not seen:
        raise UserError(
            f"none of the {len(skipped)} images can be evaluated, the first is image {skipped[0]}: "
            "put good copies in their place"
        )
    missing = expected - seen - set(skipped)
    if missing:
        raise UserError(
            f"{len(missing)} of {len(expected)} images were not evaluated, among them image "
            f"{min(missing)}: the batches must go through the whole source once"
        )
    return [detection for _, detections in found for detection in detections or ()], skipped


def without_images(ground_truth: Mapping[str, Any], image_ids: Sequence[int]) -> Mapping[str, Any]:
    """Return a COCO dict without some images and their annotations."""
    if not image_ids:
        return ground_truth
    gone = set(image_ids)
    return {
        **ground_truth,
        "images": [entry for entry in ground_truth["images"] if entry["id"] not in gone],
        "annotations": [
            entry for entry in ground_truth["annotations"] if entry["image_id"] not in gone
        ],
    }


def _one_ahead(
    predict: Callable[[Batch], Detections], batches: Iterable[Batch]
) -> Iterable[tuple[Batch, Detections]]:
    """Yield batches with their detections as numpy.

    The next batch is dispatched before the previous one is fetched: dispatch is asynchronous, so
    the device computes while the host converts detections and loads images.
    """
    pending = None
    for batch in batches:
        dispatched = batch, predict(batch)
        if pending is not None:
            yield pending[0], jax.device_get(pending[1])
        pending = dispatched
    if pending is not None:
        yield pending[0], jax.device_get(pending[1])


def _mark_seen(image_id: int, seen: set[int], expected: set[int]) -> None:
    if image_id in seen:
        raise UserError(
            f"image {image_id} came up twice in one evaluation: ids must be unique in the "
            "annotations, and the batches must go through the source once"
        )
    if image_id not in expected:
        raise UserError(
            f"image {image_id} is not in the annotations of the source: evaluate batches of the "
            "same source"
        )
    seen.add(image_id)
