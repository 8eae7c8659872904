"""Reading, decoding and augmenting training images."""

import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from bifpn_jax.data import pipeline
from bifpn_jax.data.pipeline import train_batches
from bifpn_jax.data.records import decode_image
from bifpn_jax.data.sources.coco_folder import CocoJson
from bifpn_jax.data.sources.shapes import DrawnShapes
from bifpn_jax.errors import UserError
from experiments.performance import effdet_peer
from experiments.performance.contest import OURS, Contest
from experiments.performance.options import Options

BARE = "bare decoding"
STACKED = "ours, images stacked"
_HW = (640, 640)
_BATCH = 16
_BATCHES = 8  # per round
_DRAWN, _NAMES = 64, 32
_WARM_UP = 2
_REST = 1.0  # seconds between turns, in which contestants finish reading ahead


class Reader(NamedTuple):
    """A contestant that may read ahead.

    Attributes:
        read: the function that is timed.
        discard: consumes at least everything that has been read ahead, so that the timing of `read`
            starts with nothing in stock, as it ends.
    """

    read: Callable[[], object]
    discard: Callable[[], object] = lambda: None


class StackedImages:
    """A replacement for `BatchMemory` that keeps images separate and copies them into the batch."""

    def __init__(self, rows: int, shape: tuple[int, ...]) -> None:
        """Set the shape of an image."""
        self._shape = shape

    def image(self, index: int) -> np.ndarray:
        """Return fresh memory."""
        return np.empty(self._shape, np.uint8)

    def batch(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return a copy of the images [rows, *shape]."""
        return np.stack(images)


def input_pipeline(options: Options) -> list[Contest]:
    """Time eight batches of 16 at 640 pixels, flipped and scaled, with a thread per core.

    The limit is bare decoding of the same number of the same files, by the same decoder and
    threads, without reading files or keeping images. Another contestant stacks separate images.
    """
    threads = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as temporary:
        folder, annotations = options.images, options.annotations
        if (folder is None) != (annotations is None):
            raise UserError("--images and --annotations go together; give both or neither.")
        if folder is None or annotations is None:
            folder, annotations = write_drawn_images(Path(temporary), _DRAWN, _NAMES)
        files = [path.read_bytes() for path in image_paths(folder, annotations)]
        read = partial(
            train_batches,
            CocoJson(folder, annotations),
            batch_size=_BATCH,
            image_hw=_HW,
            max_boxes=100,
            seed=0,
            num_threads=threads,
        )
        ours = read()
        with mock.patch.object(pipeline, "BatchMemory", StackedImages):
            stacked = read()
        with ThreadPoolExecutor(threads) as pool:
            readers = {
                # It reads a batch ahead, and a row for each thread.
                OURS: _batch_reader(ours, ahead=2),
                STACKED: _batch_reader(stacked, ahead=2),
                BARE: Reader(bare_decoding(pool, files, _BATCH * _BATCHES)),
            }
            if options.peers:
                theirs = effdet_peer.loader(str(folder), str(annotations), _HW, _BATCH, threads)
                # PyTorch's workers read two batches ahead each.
                readers["effdet's loader"] = _batch_reader(theirs, ahead=2 * threads)
            work = f"input, {_BATCH * _BATCHES} images at {_HW[0]} pixels, {threads} threads"
            return [Contest(work, "", "s", time_readers(readers, options.rounds))]


def time_readers(readers: Mapping[str, Reader], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each reader in each round; none reads ahead during another's turn."""
    names = list(readers)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(_WARM_UP + rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            readers[name].discard()
            start = time.perf_counter()
            readers[name].read()
            if turn >= _WARM_UP:
                seconds[name].append(time.perf_counter() - start)
            time.sleep(_REST)
    return seconds


def bare_decoding(
    pool: ThreadPoolExecutor, files: Sequence[bytes], count: int
) -> Callable[[], object]:
    """Return a function that decodes files from memory, in all threads, over and over."""
    chosen = list(itertools.islice(itertools.cycle(files), count))

    def run() -> None:
        for _ in pool.map(lambda encoded: decode_image(encoded, "").shape, chosen):
            pass

    return run


def write_drawn_images(folder: Path, count: int, names: int) -> tuple[Path, Path]:
    """Write JPEGs of drawn shapes, 480 to 640 pixels, and their COCO file.

    Every file has several names, each a separate record, because shuffling few records costs more
    per record than shuffling many.
    """
    source = DrawnShapes(count, sides=(480, 640))
    truth = source.ground_truth()
    images, annotations = [], []
    for i in range(len(source)):
        (folder / source[i].where).write_bytes(source[i].encoded)
    for copy in range(names):
        for image in truth["images"]:
            name = f"{copy}_{image['file_name']}"
            os.link(folder / image["file_name"], folder / name)
            images.append(image | {"id": image["id"] + copy * count, "file_name": name})
        for annotation in truth["annotations"]:
            again = {
                "id": annotation["id"] + copy * len(truth["annotations"]),
                "image_id": annotation["image_id"] + copy * count,
            }
            annotations.append(annotation | again)
    path = folder / "annotations.json"
    path.write_text(json.dumps(truth | {"images": images, "annotations": annotations}))
    return folder, path


def image_paths(folder: Path, annotations: Path) -> list[Path]:
    """Return the image files in an annotation file."""
    entries = json.loads(annotations.read_text())["images"]
    return [folder / entry["file_name"] for entry in entries]


def _batch_reader(batches: Iterator[Any], ahead: int) -> Reader:
    def take(count: int) -> None:
        for _ in range(count):
            next(batches)

    return Reader(lambda: take(_BATCHES), lambda: take(ahead))
