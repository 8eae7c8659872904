import dataclasses
from functools import partial

import numpy as np
import pytest

from bifpn_jax.data.augment.flip import flip
from bifpn_jax.data.augment.scale_jitter import scale_jitter
from bifpn_jax.data.pipeline import (
    count_crowded_images,
    eval_batches,
    letterbox_image,
    train_batches,
)
from bifpn_jax.data.records import load_image
from bifpn_jax.data.sources.shapes import DrawnShapes
from bifpn_jax.errors import UserError

FRAME = (96, 128)
SHAPES = {
    "image": ((*FRAME, 3), np.uint8),
    "content_hw": ((2,), np.int32),
    "boxes": ((9, 4), np.float32),
    "labels": ((9,), np.int32),
    "image_id": ((), np.int64),
    "scale": ((), np.float32),
    "original_hw": ((2,), np.int32),
    "mask": ((), np.bool_),
    "dropped_boxes": ((), np.int32),
    "skipped_id": ((), np.int64),
}


@pytest.fixture(scope="module")
def source():
    return DrawnShapes(10, seed=3, sides=(64, 128))


def train(source, **options):
    defaults = {"batch_size": 4, "image_hw": FRAME, "max_boxes": 9, "seed": 0, "num_threads": 2}
    return train_batches(source, **defaults | options)


def evaluate(source, **options):
    defaults = {"batch_size": 4, "image_hw": FRAME, "max_boxes": 9, "num_threads": 2}
    return eval_batches(source, **defaults | options)


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def assert_same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.keys() == y.keys()
        for key in x:
            np.testing.assert_array_equal(x[key], y[key], err_msg=key)


def ids(batches):
    return [int(i) for batch in batches for i in batch["image_id"]]


class Replaced:
    """A source in which one record differs."""

    def __init__(self, source, index, **fields):
        self._source, self._index, self._fields = source, index, fields
        self.label_map = source.label_map

    def __len__(self):
        return len(self._source)

    def __getitem__(self, index):
        record = self._source[index]
        return dataclasses.replace(record, **self._fields) if index == self._index else record

    def box_counts(self):
        return np.array([len(self[i].boxes) for i in range(len(self))])


@pytest.mark.parametrize("make", [train, lambda source: iter(evaluate(source))])
def test_batches_have_the_promised_form(source, make):
    batch = next(make(source))
    assert batch.keys() == SHAPES.keys() | {"more_skipped"}
    assert (batch["more_skipped"].shape, batch["more_skipped"].dtype) == ((0,), np.int64)
    for key, (shape, dtype) in SHAPES.items():
        assert batch[key].shape == (4, *shape), key
        assert batch[key].dtype == dtype, key
    padding = batch["labels"] < 0
    assert padding.any()
    assert (~padding).any()
    assert not batch["boxes"][padding].any()
    assert (batch["labels"][padding] == -1).all()
    sides = batch["boxes"][..., 2:] - batch["boxes"][..., :2]
    assert (sides[~padding] > 0).all()
    for image, (height, width) in zip(batch["image"], batch["content_hw"], strict=True):
        assert image[:height, :width].any()
        assert not image[height:].any()
        assert not image[:, width:].any()


def test_the_seed_decides_everything(source):
    a = take(train(source), 5)
    assert_same(a, take(train(source, num_threads=0), 5))
    assert_same(a, take(train(source, num_threads=7), 5))
    other = take(train(source, seed=1), 5)
    assert ids(a) != ids(other)


def test_a_saved_position_continues_bit_for_bit(source):
    iterator = train(source)
    take(iterator, 3)
    state = iterator.get_state()
    expected = take(iterator, 6)
    iterator.set_state(state)
    assert_same(expected, take(iterator, 6))
    fresh = train(source)
    next(fresh)  # also from a position of its own, with images already in the making
    fresh.set_state(state)
    assert_same(expected, take(fresh, 6))


def test_batches_stay_as_they_were_while_others_are_read(source):
    iterator = train(source, num_threads=4)
    state = iterator.get_state()
    held = take(iterator, 4)
    copies = [{key: value.copy() for key, value in batch.items()} for batch in held]
    last_rows = [batch["image"][-1] for batch in take(iterator, 3)]
    copied_rows = [row.copy() for row in last_rows]
    take(iterator, 10)
    iterator.set_state(state)
    for batch in held:
        batch["image"][0] = 0  # a batch is its reader's own
    assert_same(copies, take(iterator, 4))
    take(iterator, 10)
    np.testing.assert_array_equal(last_rows, copied_rows)
    for batch, copy in zip(held, copies, strict=True):
        np.testing.assert_array_equal(batch["image"][1:], copy["image"][1:])
        assert not batch["image"][0].any()


def test_a_position_between_two_batches(source):
    """A run may go on with another batch size."""
    rows = ids(take(train(source, batch_size=1), 14))
    iterator = train(source)
    iterator.set_state({"next_index": 6})
    batches = take(iterator, 2)
    assert ids(batches) == rows[6:]
    alone = train(source, batch_size=1)
    alone.set_state({"next_index": 6})
    images = [next(alone)["image"][0] for _ in range(8)]
    np.testing.assert_array_equal(np.concatenate([b["image"] for b in batches]), images)


def test_every_epoch_has_each_image_once_in_a_new_order(source):
    batches = take(train(source, batch_size=5), 6)
    epochs = [ids(batches[i : i + 2]) for i in (0, 2, 4)]
    assert all(sorted(epoch) == list(range(1, 11)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    rows = [(batch, row) for batch in batches for row in range(5) if batch["image_id"][row] == 1]
    images = [batch["image"][row] for batch, row in rows]
    assert len(images) == 3
    assert not np.array_equal(images[0], images[1])


def test_a_batch_larger_than_the_dataset(source):
    assert sorted(ids([next(train(source, batch_size=20))])) == sorted([*range(1, 11)] * 2)


@pytest.mark.parametrize("count", [2, 4])
def test_shards_together_are_the_batch_of_one_process(source, count):
    """One after another, so that an image is on the same device whatever the number of hosts."""
    whole = take(train(source), 6)
    shards = [take(train(source, shard_index=i, shard_count=count), 6) for i in range(count)]
    for step, batch in enumerate(whole):
        for key in batch:
            parts = [shard[step][key] for shard in shards]
            np.testing.assert_array_equal(batch[key], np.concatenate(parts))


@pytest.mark.parametrize(("before", "after"), [(1, 2), (4, 1), (2, 4)])
def test_any_number_of_processes_goes_on_where_another_was(source, before, after):
    readers = [train(source, shard_index=i, shard_count=before) for i in range(before)]
    for reader in readers:
        take(reader, 3)
    states = [reader.get_state() for reader in readers]
    assert states == [states[0]] * before
    expected = take(train(source), 5)[3:]
    readers = [train(source, shard_index=i, shard_count=after) for i in range(after)]
    for reader in readers:
        reader.set_state(states[0])
    for batch in expected:
        parts = [next(reader) for reader in readers]
        for key in batch:
            joined = np.concatenate([part[key] for part in parts])
            np.testing.assert_array_equal(batch[key], joined)


def test_a_batch_must_divide_among_the_shards(source):
    with pytest.raises(UserError, match="set batch_size to a multiple of 3"):
        train(source, shard_count=3)


def test_flip_can_be_switched_off(source):
    whole = partial(scale_jitter, scales=(1.0, 1.0))
    straight = take(train(source, augmentations=[partial(flip, probability=0.0), whole]), 5)
    for batch in straight:
        for row, image_id in enumerate(batch["image_id"]):
            expected = letterbox_image(load_image(source[int(image_id) - 1]), FRAME)
            np.testing.assert_array_equal(batch["image"][row], expected[0])
    flipped = take(train(source, augmentations=["flip", whole]), 5)
    assert ids(straight) == ids(flipped)
    same = [
        np.array_equal(a["image"][row], b["image"][row])
        for a, b in zip(straight, flipped, strict=True)
        for row in range(4)
    ]
    assert 4 <= sum(same) <= 16


def test_crowds_are_not_trained_on(source):
    count = len(source[0].boxes)
    assert count >= 2
    crowd = Replaced(source, 0, is_crowd=np.arange(count) == 0)
    batch = next(iter(evaluate(crowd)))
    kept = batch["labels"][0][batch["labels"][0] >= 0]
    assert kept.tolist() == source[0].labels[1:].tolist()


def test_the_largest_boxes_are_kept_and_the_others_counted(source):
    boxes = np.array([[0, 0, 8, 8], [0, 0, 40, 40], [5, 5, 9, 9], [1, 1, 30, 30]], np.float32)
    fields = {
        "boxes": boxes,
        "labels": np.arange(4, dtype=np.int32),
        "is_crowd": np.zeros(4, bool),
        "area": np.ones(4, np.float32),
    }
    crowded = Replaced(source, 0, **fields)
    batch = next(iter(evaluate(crowded, max_boxes=3)))
    assert batch["labels"][0].tolist() == [0, 1, 3]
    assert batch["dropped_boxes"][0] == 1
    assert batch["boxes"].shape == (4, 3, 4)
    counts = crowded.box_counts()
    assert count_crowded_images(crowded, 3) == ((counts > 3).sum(), counts.max())
    assert count_crowded_images(crowded, 100)[0] == 0


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10, 16])
@pytest.mark.parametrize("count", [1, 2])
def test_evaluation_sees_every_image_once(source, batch_size, count):
    batch_size *= count
    shards = [
        list(evaluate(source, batch_size=batch_size, shard_index=i, shard_count=count))
        for i in range(count)
    ]
    steps = -(-10 // batch_size)
    assert [len(batches) for batches in shards] == [steps] * count
    rows = [
        (int(batch["image_id"][row]), bool(batch["mask"][row]))
        for batches in shards
        for batch in batches
        for row in range(batch_size // count)
    ]
    assert sorted(image_id for image_id, real in rows if real) == list(range(1, 11))
    assert all(image_id == -1 for image_id, real in rows if not real)
    assert len(rows) == steps * batch_size


def test_padding_rows_are_empty(source):
    last = list(evaluate(source, batch_size=7))[-1]
    padding = ~last["mask"]
    assert padding.tolist() == [False] * 3 + [True] * 4
    assert not last["image"][padding].any()
    assert (last["labels"][padding] == -1).all()
    assert np.isfinite(last["scale"]).all()
    assert (last["content_hw"] > 0).all()


def test_evaluation_can_be_repeated_and_points_back_to_the_original(source):
    batches = evaluate(source)
    first = list(batches)
    assert_same(first, list(batches))
    for batch in first:
        for row in np.flatnonzero(batch["mask"]):
            record = source[int(batch["image_id"][row]) - 1]
            assert tuple(batch["original_hw"][row]) == record.original_hw
            real = batch["labels"][row] >= 0
            assert batch["labels"][row][real].tolist() == record.labels.tolist()
            back = batch["boxes"][row][real] * batch["scale"][row]
            np.testing.assert_allclose(back, record.boxes, atol=2 * batch["scale"][row])


def test_a_damaged_image_stops_with_its_name(source):
    damaged = Replaced(source, 4, encoded=source[4].encoded[:500], where="dir/bad.jpg")
    with pytest.raises(UserError, match=r"dir/bad\.jpg: the image is cut off"):
        take(train(damaged), 5)
    with pytest.raises(UserError, match=r"dir/bad\.jpg: the image is cut off"):
        list(evaluate(damaged))


def test_real_images(shared):
    from bifpn_jax.data.sources.coco_folder import CocoJson

    name = "instances_train2017_90.json"
    coco = CocoJson(shared / "data/coco90/images", shared / "data/coco90/annotations" / name)
    batches = list(
        eval_batches(coco, batch_size=16, image_hw=(128, 128), max_boxes=100, num_threads=2)
    )
    real = sum(int((batch["labels"] >= 0).sum()) for batch in batches)
    assert real == 803 - 9
    assert len(set(ids(batches)) - {-1}) == 90
    batch = next(train(coco, image_hw=(160, 160), max_boxes=100))
    assert batch["labels"].max() < 80
