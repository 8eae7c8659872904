import jax.numpy as jnp
import numpy as np
import pytest

from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.data.rows import NONE_SKIPPED
from bifpn_jax.errors import UserError
from bifpn_jax.evaluation.evaluator import evaluate
from bifpn_jax.postprocessing import Detections

LABEL_MAP = LabelMap((2, 5), ("cat", "dog"))
NUM_IMAGES = 10


class Source:
    """Ten images, one object in each; the box tells the image apart from the others."""

    def ground_truth(self):
        return {
            "images": [{"id": 100 + i} for i in range(NUM_IMAGES)],
            "annotations": [
                {"image_id": 100 + i, "category_id": LABEL_MAP.category_ids[i % 2], "bbox": box(i)}
                for i in range(NUM_IMAGES)
            ],
            "categories": [{"id": 2, "name": "cat"}, {"id": 5, "name": "dog"}],
        }


def box(i):
    return [10 * i, 5 * i, 40 + i, 60]  # x, y, width, height


def batches_of(size, images=range(NUM_IMAGES)):
    images = list(images)
    for start in range(0, len(images), size):
        rows = images[start : start + size]
        padded = rows + [0] * (size - len(rows))  # pads repeat an image, as a pipeline may
        yield {
            "image_id": np.array([100 + i for i in padded], np.int64),
            "mask": np.arange(size) < len(rows),
        }


def perfect(batch, xp=np):
    """Each image's own object, followed by an empty slot."""
    indices = batch["image_id"] - 100
    x, y, w, h = np.array([box(i) for i in indices]).T
    found = np.stack([y, x, y + h, x + w], axis=1)
    boxes = np.stack([found, np.zeros_like(found)], axis=1).astype(np.float32)
    scores = np.tile(np.array([0.9, 0.0], np.float32), (len(indices), 1))
    labels = np.stack([indices % 2, np.full_like(indices, -1)], axis=1).astype(np.int32)
    return Detections(xp.asarray(boxes), xp.asarray(scores), xp.asarray(labels))


@pytest.mark.parametrize("size", [1, 3, 7, 10, 16])
def test_every_image_once_whatever_the_batch_size(size):
    metrics, detections = evaluate(perfect, Source(), batches_of(size), label_map=LABEL_MAP)
    assert [d["image_id"] for d in detections] == [100 + i for i in range(NUM_IMAGES)]
    assert [d["bbox"] for d in detections] == [box(i) for i in range(NUM_IMAGES)]
    assert [d["category_id"] for d in detections] == [2, 5] * 5
    assert metrics.summary["AP"] == pytest.approx(1.0)
    assert metrics.num_images == NUM_IMAGES


def test_jax_arrays():
    metrics, _ = evaluate(
        lambda batch: perfect(batch, jnp), Source(), batches_of(4), label_map=LABEL_MAP
    )
    assert metrics.summary["AP"] == pytest.approx(1.0)


def test_next_batch_is_dispatched_before_the_last_is_fetched():
    events = []

    class Fetched:
        def __init__(self, number, value):
            self.number, self.value = number, value

        def __array__(self, dtype=None, copy=None):
            events.append(f"fetch {self.number}")
            return self.value

        # jax.device_get copies everything that has this to the host first.
        def copy_to_host_async(self):
            pass

    def predict(batch):
        number = sum(event.startswith("dispatch") for event in events)
        events.append(f"dispatch {number}")
        found = perfect(batch)
        return found._replace(labels=Fetched(number, found.labels))

    evaluate(predict, Source(), batches_of(4), label_map=LABEL_MAP)
    order = list(dict.fromkeys(events))
    assert order == ["dispatch 0", "dispatch 1", "fetch 0", "dispatch 2", "fetch 1", "fetch 2"]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([*range(NUM_IMAGES), 3], "image 103 came up twice"),
        (range(NUM_IMAGES - 2), "2 of 10 images were not evaluated, among them image 108"),
        ([], "10 of 10 images"),
        ([*range(NUM_IMAGES), 77], "image 177 is not in the annotations"),
    ],
)
def test_lost_and_doubled_images_are_refused(images, message):
    with pytest.raises(UserError, match=message):
        evaluate(perfect, Source(), batches_of(4, images), label_map=LABEL_MAP)


@pytest.mark.parametrize("progress", [False, True])
def test_progress_bar_on_a_terminal(capsys, monkeypatch, progress):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    evaluate(perfect, Source(), batches_of(4), label_map=LABEL_MAP, progress=progress)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("/10 [" in err) == progress


def test_a_bad_image_is_neither_found_nor_missed():
    def batches(bad):
        for batch in batches_of(4):
            is_bad = np.isin(batch["image_id"], bad) & batch["mask"]
            yield {
                "image_id": batch["image_id"],
                "mask": batch["mask"] & ~is_bad,
                "skipped_id": np.where(is_bad, batch["image_id"], NONE_SKIPPED),
            }

    metrics, detections = evaluate(perfect, Source(), batches([103, 108]), label_map=LABEL_MAP)
    assert {d["image_id"] for d in detections} == {100, 101, 102, 104, 105, 106, 107, 109}
    assert metrics.num_images == 8
    assert metrics.summary["AP"] == pytest.approx(1.0)
    everything = range(100, 110)
    with pytest.raises(UserError, match="none of the 10 images can be evaluated"):
        evaluate(perfect, Source(), batches(everything), label_map=LABEL_MAP)


def test_the_limit_of_the_metric_is_given():
    metrics, _ = evaluate(perfect, Source(), batches_of(4), label_map=LABEL_MAP, max_detections=150)
    assert metrics.max_detections == 150
    assert metrics.summary["AR150"] == pytest.approx(1.0)
