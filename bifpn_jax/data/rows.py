"""One row of a batch: an image with its boxes in the network's frame, in arrays of fixed size.

The image is written to ``out`` [H, W, 3] uint8, its row in the batch's array.
"""

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from bifpn_jax.data.augment.augmentation import Example
from bifpn_jax.data.augment.placing import Frame, place
from bifpn_jax.data.records import BadImageError, Record, Source, load_image
from bifpn_jax.errors import UserError

Batch = dict[str, np.ndarray]
T = TypeVar("T")

NONE_SKIPPED = -(2**63)  # never the id of an image

_MOST_IN_A_ROW = 1000  # bad images; with more, the disk must have gone


def read_good(
    source: Source, index: int, use: Callable[[Record], T]
) -> tuple[T, BadImageError | None]:
    """Use record ``index``, or the first good one that follows it in the source.

    The replacement of a bad image depends only on the data, neither on threads nor on what was read
    before.

    Args:
        source: the records; the last is followed by the first.
        index: the record to use.
        use: the function to apply to the record.

    Returns:
        The function's result, and the error of record ``index`` if it is bad.

    Raises:
        UserError: too many images in a row are bad.
    """
    first = None
    for following in range(min(len(source), _MOST_IN_A_ROW)):
        try:
            return use(source[(index + following) % len(source)]), first
        except BadImageError as error:
            first = first or error
    raise UserError(f"{first} ({following + 1} images in a row are bad)")


def read_example(record: Record, num_classes: int | None = None) -> Example:
    """Decode an image; crowds are dropped from its boxes.

    Args:
        record: an image of any source.
        num_classes: the number of classes of the source; None for any labels.

    Raises:
        UserError: the record's boxes or labels are not what a source promises.
    """
    if problem := _problem(record, num_classes):
        raise UserError(f"{record.where}: {problem}; correct it in the source of the data")
    # Sources of users may have 0 and 1, as COCO's files do.
    single = ~np.asarray(record.is_crowd, bool)
    return Example(load_image(record), record.boxes[single], record.labels[single])


def _problem(record: Record, num_classes: int | None) -> str:
    """Return what is wrong with the boxes and labels of a record, "" if nothing is."""
    boxes, labels = record.boxes, record.labels
    if not isinstance(boxes, np.ndarray) or boxes.dtype != np.float32 or boxes.shape[1:] != (4,):
        return "its boxes are not a float32 array [N, 4]"
    if not isinstance(labels, np.ndarray) or labels.dtype != np.int32 or labels.ndim != 1:
        return "its labels are not an int32 array [N]"
    if not len(boxes) == len(labels) == len(record.is_crowd):
        return (
            f"it has {len(boxes)} boxes, {len(labels)} labels and {len(record.is_crowd)} is_crowd"
        )
    if not (np.isfinite(boxes).all() and (boxes[:, :2] <= boxes[:, 2:]).all()):
        return "it has boxes that are not y0 <= y1, x0 <= x1"
    if len(labels) and not 0 <= labels.min() <= labels.max() < (num_classes or np.inf):
        to = f" to {num_classes} - 1" if num_classes else ""
        return f"its labels {sorted(set(labels.tolist()))} are not from 0{to}"
    return ""


def training_row(
    record: Record,
    out: np.ndarray,
    *,
    augment: Callable[[Example], Example],
    max_boxes: int,
    antialias: bool,
    num_classes: int | None = None,
) -> Batch:
    """Decode an image, augment it and place it into the frame."""
    example = read_example(record, num_classes)
    frame = place(augment(example), out.shape[:2], antialias, out)
    return _row(frame, record.image_id, example.image.shape[:2], max_boxes)


def evaluation_row(record: Record, out: np.ndarray, *, max_boxes: int, antialias: bool) -> Batch:
    """Decode an image and fit it into the frame."""
    example = read_example(record)
    frame = place(example, out.shape[:2], antialias, out)
    return _row(frame, record.image_id, example.image.shape[:2], max_boxes)


def padding_row(out: np.ndarray, *, max_boxes: int, skipped_id: int = NONE_SKIPPED) -> Batch:
    """Return a row without an image, which fills up a batch or replaces a bad image of this id."""
    out[:] = 0
    hw = out.shape[:2]
    nothing = Frame(out, hw, np.zeros((0, 4), np.float32), np.zeros(0, np.int32), 1.0)
    row = _row(nothing, -1, hw, max_boxes)
    return row | {"mask": np.bool_(False), "skipped_id": np.int64(skipped_id)}


def _row(
    frame: Frame, image_id: int, original_hw: tuple[int, int], max_boxes: int
) -> dict[str, np.ndarray | np.generic]:
    """Pad a frame's boxes and add the other fields of a batch."""
    boxes, labels = frame.boxes, frame.labels
    dropped = max(0, len(boxes) - max_boxes)
    if dropped:
        sides = boxes[:, 2:] - boxes[:, :2]
        largest = np.argsort(-sides.prod(axis=1), kind="stable")[:max_boxes]
        boxes, labels = boxes[np.sort(largest)], labels[np.sort(largest)]
    padded_boxes = np.zeros((max_boxes, 4), np.float32)
    padded_labels = np.full(max_boxes, -1, np.int32)
    padded_boxes[: len(boxes)], padded_labels[: len(boxes)] = boxes, labels
    return {
        "image": frame.image,
        "content_hw": np.array(frame.content_hw, np.int32),
        "boxes": padded_boxes,
        "labels": padded_labels,
        "image_id": np.int64(image_id),
        "scale": np.float32(frame.scale),
        "original_hw": np.array(original_hw, np.int32),
        "mask": np.bool_(True),
        "dropped_boxes": np.int32(dropped),
        "skipped_id": np.int64(NONE_SKIPPED),
        "more_skipped": np.zeros(0, np.int64),
    }
