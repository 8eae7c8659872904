"""One row of a batch: an image with its boxes in the network's frame, all arrays of fixed size.

The image is written to ``out`` [H, W, 3] uint8, which is its place in the batch.
"""

from collections.abc import Callable

import numpy as np

from bifpn_jax.data.augment.transforms import (
    Example,
    Jitter,
    flip_horizontally,
    jitter_crop,
    letterbox,
)
from bifpn_jax.data.records import BadImageError, Record, Source, load_image
from bifpn_jax.errors import UserError

Batch = dict[str, np.ndarray]

NONE_SKIPPED = -(2**63)  # no dataset has it as an id

_MOST_IN_A_ROW = 1000  # bad images; beyond that, the disk is gone and not an image


def read_good(source: Source, index: int, use: Callable[[Record], Batch]) -> Batch:
    """Make a row of record ``index``, or of the first good one that follows it in the source.

    What takes the place of a bad image depends on nothing but the data: neither on threads nor on
    what was read before. The row's ``skipped_id`` is the id of the bad image at ``index``.

    Args:
      source: the records; after the last follows the first.
      index: the one whose turn it is.
      use: makes a row of a record.

    Raises:
      UserError: too many images in a row are bad.
    """
    first = None
    for following in range(min(len(source), _MOST_IN_A_ROW)):
        try:
            row = use(source[(index + following) % len(source)])
        except BadImageError as error:
            first = first or error
        else:
            return row if first is None else row | {"skipped_id": np.int64(first.image_id)}
    raise UserError(f"{first} ({following + 1} images in a row are bad)")


def training_row(
    record: Record,
    out: np.ndarray,
    *,
    mirrored: bool,
    jitter: Jitter,
    max_boxes: int,
    antialias: bool,
) -> Batch:
    """Decode an image and augment it: mirrored or not, scaled and cut as ``jitter`` says."""
    image = load_image(record)
    boxes, labels = _without_crowds(record)
    if mirrored:
        image, boxes = flip_horizontally(image, boxes)
    example = jitter_crop(image, boxes, labels, jitter, out.shape[:2], antialias, out)
    return _row(example, record.image_id, image.shape[:2], max_boxes)


def evaluation_row(record: Record, out: np.ndarray, *, max_boxes: int, antialias: bool) -> Batch:
    """Decode an image and fit it into the frame."""
    image = load_image(record)
    example = letterbox(image, *_without_crowds(record), out.shape[:2], antialias, out)
    return _row(example, record.image_id, image.shape[:2], max_boxes)


def padding_row(out: np.ndarray, *, max_boxes: int, skipped_id: int = NONE_SKIPPED) -> Batch:
    """Return a row of no image: it fills up a batch, or stands for a bad image with this id."""
    out[:] = 0
    hw = out.shape[:2]
    nothing = Example(out, hw, np.zeros((0, 4), np.float32), np.zeros(0, np.int32), 1.0)
    row = _row(nothing, -1, hw, max_boxes)
    return row | {"mask": np.bool_(False), "skipped_id": np.int64(skipped_id)}


def _without_crowds(record: Record) -> tuple[np.ndarray, np.ndarray]:
    single = ~record.is_crowd
    return record.boxes[single], record.labels[single]


def _row(
    example: Example, image_id: int, original_hw: tuple[int, int], max_boxes: int
) -> dict[str, np.ndarray | np.generic]:
    """Pad an example's boxes and add what a batch needs to know about its image."""
    boxes, labels = example.boxes, example.labels
    dropped = max(0, len(boxes) - max_boxes)
    if dropped:
        sides = boxes[:, 2:] - boxes[:, :2]
        largest = np.argsort(-sides.prod(axis=1), kind="stable")[:max_boxes]
        boxes, labels = boxes[np.sort(largest)], labels[np.sort(largest)]
    padded_boxes = np.zeros((max_boxes, 4), np.float32)
    padded_labels = np.full(max_boxes, -1, np.int32)
    padded_boxes[: len(boxes)], padded_labels[: len(boxes)] = boxes, labels
    return {
        "image": example.image,
        "content_hw": np.array(example.content_hw, np.int32),
        "boxes": padded_boxes,
        "labels": padded_labels,
        "image_id": np.int64(image_id),
        "scale": np.float32(example.scale),
        "original_hw": np.array(original_hw, np.int32),
        "mask": np.bool_(True),
        "dropped_boxes": np.int32(dropped),
        "skipped_id": np.int64(NONE_SKIPPED),
    }
