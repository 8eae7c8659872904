"""Batches for training and evaluation, made with grain from a source of records.

Decoding and augmentation run in threads of this process: OpenCV releases the GIL, threads start at
once, and on small machines they are faster than worker processes. The batch is a dict of numpy
arrays (B images per batch, M padded boxes):

    image          [B, H, W, 3] uint8, content at the top-left, the rest zero
    content_hw     [B, 2] int32, height and width of the content
    boxes          [B, M, 4] float32 yxyx in network pixels, zero in padding
    labels         [B, M] int32, -1 = padding
    image_id       [B] int64, the dataset's id, -1 in padding rows
    scale          [B] float32, original pixels = network pixels * scale
    original_hw    [B, 2] int32, size of the original image
    mask           [B] bool, False = a row that only pads the last evaluation batch, or that
                   replaces a bad image
    dropped_boxes  [B] int32, number of boxes dropped because the image has more than M
    skipped_id     [B] int64, id of the bad image that the row replaces, else NONE_SKIPPED
    more_skipped   [S] int64, ids of the bad images that augmentations drew in addition

Several processes read disjoint shards: at every step the union of their batches is the batch that
a single process would read, so neither the order of the data nor its augmentation depends on the
number of processes.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import grain.python as grain
import numpy as np

from bifpn_jax.data.augment.applying import PUBLISHED, Step, augmented, find_steps
from bifpn_jax.data.augment.augmentation import Augmentation, Example
from bifpn_jax.data.augment.placing import letterbox_image
from bifpn_jax.data.batch_memory import BatchMemory
from bifpn_jax.data.records import BadImageError, Record, Source
from bifpn_jax.data.rows import (
    NONE_SKIPPED,
    Batch,
    evaluation_row,
    padding_row,
    read_example,
    read_good,
    training_row,
)
from bifpn_jax.errors import UserError

__all__ = [
    "count_crowded_images",
    "eval_batches",
    "letterbox_image",
    "skipped_ids",
    "train_batches",
]

# With get_state and set_state.
TrainBatches = grain.DatasetIterator
EvalBatches = grain.IterDataset

T = TypeVar("T")

# A row yet to be made; its image is written to the array [H, W, 3] uint8 that it is given.
_Row = Callable[[np.ndarray], Batch]


def train_batches(
    source: Source,
    *,
    batch_size: int,
    image_hw: tuple[int, int],
    max_boxes: int,
    seed: int,
    augmentations: Sequence[str | Augmentation | Step] = PUBLISHED,
    antialias: bool = False,
    bad_images: str = "error",
    num_threads: int | None = None,
    shard_index: int = 0,
    shard_count: int = 1,
) -> grain.DatasetIterator:
    """Return an endless iterator over shuffled, augmented batches.

    The same seed gives the same batches, bit for bit, for any number of threads. The position is
    saved and restored exactly with the iterator's ``get_state`` and ``set_state``. Crowds are
    skipped. A bad image raises its BadImageError from ``next``, or is replaced.

    Args:
        source: the records.
        batch_size: images per step over all shards; each shard yields its share of rows.
        image_hw: height and width of the network's frame, pixels.
        max_boxes: M; if an image has more boxes, the M largest are kept.
        seed: seed of the order and of the augmentation, 0 <= seed < 2^32.
        augmentations: augmentations in order, as ``augment.applying.find_steps`` takes them.
        antialias: how images are resized, see ``augment.placing.resize``.
        bad_images: "skip" replaces a bad image by the next good one of the source, with the same
            augmentation; "error" raises.
        num_threads: threads that decode and augment; None is one for each CPU, up to 16.
        shard_index: which share of every batch this process reads.
        shard_count: number of processes that read.
    """
    rows = _rows_per_shard(batch_size, shard_count)
    steps = find_steps(augmentations)
    num_classes = len(source.label_map)

    def read(index: int, use: Callable[[Record], T]) -> tuple[T, BadImageError | None]:
        return read_good(source, index, use) if bad_images == "skip" else (use(source[index]), None)

    def plan(index: int, rng: np.random.Generator) -> _Row:
        # grain reuses the generator for other rows, and an image that replaces a bad one gets the
        # same numbers.
        return partial(make, index, type(rng.bit_generator), rng.bit_generator.state)

    def make(index: int, kind: type, drawn: Mapping[str, Any], out: np.ndarray) -> Batch:
        drawn_bad: list[int] = []

        def use(record: Record) -> Batch:
            bits = kind(0)
            bits.state = drawn
            rng = np.random.Generator(bits)

            def more() -> Example:
                example, bad = read(
                    int(rng.integers(len(source))), partial(read_example, num_classes=num_classes)
                )
                if bad is not None:
                    drawn_bad.append(bad.image_id)
                return example

            augment = partial(
                augmented,
                steps=steps,
                rng=rng,
                more=more,
                image_hw=image_hw,
                num_classes=num_classes,
                where=record.where,
            )
            return training_row(
                record,
                out,
                augment=augment,
                max_boxes=max_boxes,
                antialias=antialias,
                num_classes=num_classes,
            )

        row, bad = read(index, use)
        row |= {"more_skipped": np.array(drawn_bad, np.int64)}
        return row if bad is None else row | {"skipped_id": np.int64(bad.image_id)}

    # Only record numbers go through grain, which inspects everything that it is given.
    numbers = grain.MapDataset.range(len(source))
    dataset = numbers.seed(seed).shuffle().repeat().random_map(plan)
    if shard_count == 1:
        return iter(_read(dataset, rows, image_hw, num_threads))
    part = _PartOfEachBatch(dataset, rows, shard_index, shard_count)
    return _CommonPosition(iter(_read(part, rows, image_hw, num_threads)), shard_count)


def eval_batches(
    source: Source,
    *,
    batch_size: int,
    image_hw: tuple[int, int],
    max_boxes: int,
    antialias: bool = False,
    bad_images: str = "error",
    num_threads: int | None = None,
    shard_index: int = 0,
    shard_count: int = 1,
) -> grain.IterDataset:
    """Return the batches of one evaluation: every image exactly once, letterboxed.

    Every shard has ``ceil(len(source) / batch_size)`` of them. Rows that only fill up the last one
    have mask False, and with ``bad_images="skip"`` so do the rows of bad images. The result can be
    iterated repeatedly. For the other arguments see ``train_batches``.
    """
    rows = _rows_per_shard(batch_size, shard_count)
    length = -(-len(source) // batch_size) * batch_size

    def plan(index: int) -> _Row:
        return partial(make, index)

    def make(index: int, out: np.ndarray) -> Batch:
        if index >= len(source):
            return padding_row(out, max_boxes=max_boxes)
        try:
            return evaluation_row(source[index], out, max_boxes=max_boxes, antialias=antialias)
        except BadImageError as error:
            if bad_images != "skip":
                raise
            return padding_row(out, max_boxes=max_boxes, skipped_id=error.image_id)

    dataset = grain.MapDataset.range(length)[shard_index::shard_count].map(plan)
    return _read(dataset, rows, image_hw, num_threads)


def skipped_ids(batch: Mapping[str, np.ndarray]) -> list[int]:
    """Return the ids of the bad images that a batch skips, those of its rows first."""
    ids = batch["skipped_id"]
    return [*ids[ids != NONE_SKIPPED].tolist(), *batch["more_skipped"].tolist()]


def count_crowded_images(source: Source, max_boxes: int) -> tuple[int, int] | None:
    """Return how many images have more than ``max_boxes`` boxes, and the most boxes of any image.

    None if the source would have to read everything to know; ``dropped_boxes`` in the batches then
    counts them as they come.
    """
    counts = source.box_counts()
    if counts is None:
        return None
    return int((counts > max_boxes).sum()), int(counts.max(initial=0))


class _PartOfEachBatch(grain.MapDataset):
    """The consecutive rows of every batch that belong to a process's devices.

    With every n-th row instead, an image would be at another position in the batch than with one
    process, and so get another draw of the stochastic depth.
    """

    def __init__(self, parent: grain.MapDataset, rows: int, index: int, count: int) -> None:
        super().__init__(parent)
        self._rows, self._index, self._count = rows, index, count

    def __len__(self) -> int:
        return len(self._parent) // self._count

    def __getitem__(self, index: int) -> Batch:
        batch, row = divmod(index, self._rows)
        return self._parent[(batch * self._count + self._index) * self._rows + row]


class _CommonPosition:
    """A shard's batches, with the position of a single process, so any number of them can resume.

    The position of a shard is its number of rows; every shard has read that many.
    """

    def __init__(self, shard: grain.DatasetIterator, shard_count: int) -> None:
        self._shard, self._shard_count = shard, shard_count

    def __iter__(self) -> "_CommonPosition":
        return self

    def __next__(self) -> Batch:
        return next(self._shard)

    def get_state(self) -> dict[str, int]:
        return {"next_index": self._shard.get_state()["next_index"] * self._shard_count}

    def set_state(self, state: dict[str, int]) -> None:
        self._shard.set_state({"next_index": state["next_index"] // self._shard_count})


def _rows_per_shard(batch_size: int, shard_count: int) -> int:
    if batch_size < 1 or batch_size % shard_count:
        raise UserError(
            f"a batch of {batch_size} images cannot be shared by {shard_count} processes; set "
            f"batch_size to a multiple of {shard_count}"
        )
    return batch_size // shard_count


def _read(
    dataset: grain.MapDataset, rows: int, image_hw: tuple[int, int], num_threads: int | None
) -> grain.IterDataset:
    """Make single rows in threads, about one batch ahead, with images written into the batch.

    Threads work on rows, not on batches: all of them work on the next batch, and whatever their
    number, memory holds one unfinished batch.
    """
    memory = BatchMemory(rows, (*image_hw, 3))

    def make(index: int, row: _Row) -> Batch:
        return row(memory.image(index))

    def join(made: Sequence[Batch]) -> Batch:
        columns = {key: [row[key] for row in made] for key in made[0]}
        images = memory.batch(columns.pop("image"))
        more = np.concatenate(columns.pop("more_skipped"))
        stacked = {key: np.stack(values) for key, values in columns.items()}
        return {"image": images, **stacked, "more_skipped": more}

    threads = num_threads if num_threads is not None else min(16, os.cpu_count() or 1)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=rows + threads)
    made = dataset.map_with_index(make).to_iter_dataset(options)
    return made.batch(rows, drop_remainder=True, batch_fn=join)
