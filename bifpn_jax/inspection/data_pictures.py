"""Pictures of training data at its three stages: annotated, augmented, matched."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from bifpn_jax.data.records import Record, load_image
from bifpn_jax.inspection.pictures import draw_boxes, draw_matches, shrink, zoom_for
from bifpn_jax.matching import match

_NOTHING = np.zeros((0, 4), np.float32)


def annotated_picture(
    record: Record, class_names: Sequence[str], *, side: int | None = None
) -> np.ndarray:
    """Draw the original image with its boxes as annotated, crowds dashed: [H, W, 3] uint8 RGB.

    Args:
        record: the image and its boxes.
        class_names: K names.
        side: maximum length of the longer side; larger images are shrunk before drawing.
    """
    image, factor = _shrunk(load_image(record), side)
    captions = [
        class_names[label] + (" (crowd)" if crowd else "")
        for label, crowd in zip(record.labels, record.is_crowd, strict=True)
    ]
    return draw_boxes(
        image,
        factor * record.boxes,
        record.labels,
        class_names,
        captions=captions,
        dashed=record.is_crowd,
        zoom=zoom_for(image),
    )


def augmented_pictures(
    batch: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    *,
    dropped: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
    side: int | None = None,
) -> list[np.ndarray]:
    """Draw the network's inputs with the boxes to train on, one picture per image of a batch.

    Args:
        batch: from `data.pipeline.train_batches`.
        class_names: K names.
        dropped: for every picture, boxes [D, 4] and labels [D] that were dropped because the image
            has too many; they are dashed.
        side: as in `annotated_picture`.
    """
    rows = _images(batch)
    pictures = []
    for n, (original, boxes, labels) in enumerate(rows):
        image, factor = _shrunk(original, side)
        more, more_labels = dropped[n] if dropped else (_NOTHING, np.zeros(0, np.int32))
        kept = labels >= 0
        all_labels = np.concatenate([labels[kept], more_labels])
        is_dropped = np.arange(len(all_labels)) >= kept.sum()
        captions = [
            class_names[label] + (" (dropped)" if out else "")
            for label, out in zip(all_labels, is_dropped, strict=True)
        ]
        pictures.append(
            draw_boxes(
                image,
                factor * np.concatenate([boxes[kept], more]),
                all_labels,
                class_names,
                captions=captions,
                dashed=is_dropped,
                zoom=zoom_for(image),
            )
        )
    return pictures


def matched_pictures(
    batch: Mapping[str, np.ndarray],
    anchors: np.ndarray,
    iou_threshold: float = 0.5,
    *,
    side: int | None = None,
) -> list[np.ndarray]:
    """Draw the network's inputs with the anchors [A, 4] that are assigned to every box.

    Args:
        batch: from `data.pipeline.train_batches`.
        anchors: [A, 4] yxyx for its images.
        iou_threshold: as in `matching.match`, which the loss uses for the assignment.
        side: as in `annotated_picture`.
    """
    assign = jax.jit(lambda boxes, labels: match(anchors, boxes, labels, iou_threshold))
    pictures = []
    for original, boxes, labels in _images(batch):
        image, factor = _shrunk(original, side)
        pictures.append(
            draw_matches(
                image,
                factor * anchors,
                np.asarray(assign(boxes, labels).matched_box),
                factor * boxes,
                iou_threshold=iou_threshold,
                zoom=zoom_for(image),
            )
        )
    return pictures


def _shrunk(image: np.ndarray, side: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return an image of at most the given side, and the factor for its boxes: [1, 4] float32."""
    smaller = shrink(image, side)
    factors = np.divide(smaller.shape[:2], image.shape[:2], dtype=np.float32)
    return smaller, np.tile(factors, 2)[None]


def _images(
    batch: Mapping[str, np.ndarray],
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return image, padded boxes and labels of every row that is not padding."""
    return [
        (batch["image"][row], batch["boxes"][row], batch["labels"][row])
        for row in np.flatnonzero(batch["mask"])
    ]
