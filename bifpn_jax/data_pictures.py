"""Pictures of a dataset at the three stages of training data: annotated, augmented, matched."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from bifpn_jax.data.records import Record, load_image
from bifpn_jax.matching import match
from bifpn_jax.visualize import draw_boxes, draw_matches, zoom_for


def annotated_picture(record: Record, class_names: Sequence[str]) -> np.ndarray:
    """The original image with its boxes as annotated, crowds marked: [H, W, 3] uint8 RGB."""
    image = load_image(record)
    captions = [
        class_names[label] + (" (crowd)" if crowd else "")
        for label, crowd in zip(record.labels, record.is_crowd, strict=True)
    ]
    return draw_boxes(
        image, record.boxes, record.labels, class_names, captions=captions, zoom=zoom_for(image)
    )


def augmented_pictures(
    batch: Mapping[str, np.ndarray], class_names: Sequence[str]
) -> list[np.ndarray]:
    """The network's inputs with the boxes that are trained on, one picture per image of a batch."""
    return [
        draw_boxes(image, boxes, labels, class_names, zoom=zoom_for(image))
        for image, boxes, labels in _images(batch)
    ]


def matched_pictures(
    batch: Mapping[str, np.ndarray], anchors: np.ndarray, iou_threshold: float = 0.5
) -> list[np.ndarray]:
    """The network's inputs with the anchors [A, 4] that the assignment gives to every box."""
    assign = jax.jit(lambda boxes, labels: match(anchors, boxes, labels, iou_threshold))
    return [
        draw_matches(
            image,
            anchors,
            np.asarray(assign(boxes, labels).matched_box),
            boxes,
            zoom=zoom_for(image),
        )
        for image, boxes, labels in _images(batch)
    ]


def _images(
    batch: Mapping[str, np.ndarray],
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Image, padded boxes and labels of every row that is not padding."""
    return [
        (batch["image"][row], batch["boxes"][row], batch["labels"][row])
        for row in np.flatnonzero(batch["mask"])
    ]
