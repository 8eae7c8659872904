"""Batches for training and evaluation, made with grain from a source of records.

Decoding and augmentation run in threads of this process: OpenCV releases the interpreter lock,
threads start at once, and on small machines they beat worker processes. The batch is a dict of
numpy arrays (B images per batch, M padded boxes):

    image          [B, H, W, 3] uint8, content at the top-left, the rest zero
    content_hw     [B, 2] int32, height and width of the content
    boxes          [B, M, 4] float32 yxyx in network pixels, zero in padding
    labels         [B, M] int32, -1 = padding
    image_id       [B] int64, the dataset's id, -1 in padding rows
    scale          [B] float32, original pixels = network pixels * scale
    original_hw    [B, 2] int32, size of the original image
    mask           [B] bool, False = a row that only pads the last evaluation batch
    dropped_boxes  [B] int32, boxes that were left out because the image has more than M

Several processes read disjoint shards: at every step the union of their batches is the batch that
one process alone would read, so neither the order of the data nor its augmentation depends on how
many there are.
"""

import os
from collections.abc import Sequence

import grain.python as grain
import numpy as np

from bifpn_jax.data.records import Record, Source, load_image
from bifpn_jax.data.transforms import (
    Example,
    flip_horizontally,
    letterbox,
    letterbox_image,
    scale_jitter_crop,
)
from bifpn_jax.errors import UserError

__all__ = ["count_crowded_images", "eval_batches", "letterbox_image", "train_batches"]

Batch = dict[str, np.ndarray]


def train_batches(
    source: Source,
    *,
    batch_size: int,
    image_hw: tuple[int, int],
    max_boxes: int,
    seed: int,
    flip: bool = True,
    jitter: tuple[float, float] = (0.1, 2.0),
    antialias: bool = False,
    num_threads: int | None = None,
    shard_index: int = 0,
    shard_count: int = 1,
) -> grain.DatasetIterator:
    """Return an endless iterator over shuffled, augmented batches.

    The same seed gives the same batches, bit for bit, whatever the number of threads. The position
    is saved and restored exactly with the iterator's ``get_state`` and ``set_state``. Crowds are
    left out. A damaged image raises its UserError from ``next``.

    Args:
      source: the records.
      batch_size: images per step over all shards together; each shard yields its share of rows.
      image_hw: height and width of the network's frame, pixels.
      max_boxes: M; of an image with more, the M largest boxes are kept.
      seed: of the order and of the augmentation, 0 <= seed < 2^32.
      flip: mirror every other image, at random.
      jitter: lowest and highest scale relative to the frame.
      antialias: how images are resized, see ``transforms.resize``.
      num_threads: threads that decode and augment; None is one for each CPU, up to 16.
      shard_index: which share of every batch this process reads.
      shard_count: how many processes read.
    """
    rows = _rows_per_shard(batch_size, shard_count)

    def augment(record: Record, rng: np.random.Generator) -> Batch:
        image = load_image(record)
        boxes, labels = _without_crowds(record)
        mirrored = rng.random() < 0.5
        if flip and mirrored:
            image, boxes = flip_horizontally(image, boxes)
        example = scale_jitter_crop(image, boxes, labels, rng, image_hw, jitter, antialias)
        return _row(example, record.image_id, image.shape[:2], max_boxes)

    dataset = grain.MapDataset.source(source).seed(seed).shuffle().repeat().random_map(augment)
    return iter(_read(dataset[shard_index::shard_count], rows, num_threads))


def eval_batches(
    source: Source,
    *,
    batch_size: int,
    image_hw: tuple[int, int],
    max_boxes: int,
    antialias: bool = False,
    num_threads: int | None = None,
    shard_index: int = 0,
    shard_count: int = 1,
) -> grain.IterDataset:
    """Return the batches of one evaluation: every image exactly once, letterboxed.

    There are ``ceil(len(source) / batch_size)`` of them on every shard; rows that only fill up the
    last one have mask False. The result can be iterated again. Arguments as in ``train_batches``.
    """
    rows = _rows_per_shard(batch_size, shard_count)
    length = -(-len(source) // batch_size) * batch_size
    padded = _EvalRows(source, length, image_hw, max_boxes, antialias)
    dataset = grain.MapDataset.source(padded)
    return _read(dataset[shard_index::shard_count], rows, num_threads)


def count_crowded_images(source: Source, max_boxes: int) -> tuple[int, int] | None:
    """Return how many images have more than ``max_boxes`` boxes, and the most boxes of any.

    None where the source does not know without reading everything; ``dropped_boxes`` in the
    batches counts them as they come.
    """
    counts = source.box_counts()
    if counts is None:
        return None
    return int((counts > max_boxes).sum()), int(counts.max(initial=0))


class _EvalRows:
    """Rows 0..length-1 of an evaluation: the source's images, then padding."""

    def __init__(
        self,
        source: Source,
        length: int,
        image_hw: tuple[int, int],
        max_boxes: int,
        antialias: bool,
    ) -> None:
        self._source, self._length = source, length
        self._image_hw, self._max_boxes = image_hw, max_boxes
        self._antialias = antialias

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Batch:
        if index >= len(self._source):
            return self._padding()
        record = self._source[index]
        image = load_image(record)
        example = letterbox(image, *_without_crowds(record), self._image_hw, self._antialias)
        return _row(example, record.image_id, image.shape[:2], self._max_boxes)

    def _padding(self) -> Batch:
        frame = np.zeros((*self._image_hw, 3), np.uint8)
        none = Example(
            frame, self._image_hw, np.zeros((0, 4), np.float32), np.zeros(0, np.int32), 1.0
        )
        return _row(none, -1, self._image_hw, self._max_boxes) | {"mask": np.bool_(False)}


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
    }


def _rows_per_shard(batch_size: int, shard_count: int) -> int:
    if batch_size < 1 or batch_size % shard_count:
        raise UserError(
            f"a batch of {batch_size} images cannot be shared by {shard_count} processes; set "
            f"--config.batch_size to a multiple of {shard_count}"
        )
    return batch_size // shard_count


def _read(dataset: grain.MapDataset, rows: int, num_threads: int | None) -> grain.IterDataset:
    """Read single rows in threads, about one batch ahead, and stack them.

    Rows, not batches, are the unit of the threads: all of them work on the next batch, and memory
    holds one batch in the making whatever their number.
    """
    threads = num_threads if num_threads is not None else min(16, os.cpu_count() or 1)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=rows + threads)
    return dataset.to_iter_dataset(options).batch(rows, drop_remainder=True, batch_fn=_stack)


def _stack(rows: Sequence[Batch]) -> Batch:
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}
