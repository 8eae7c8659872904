"""Eight devices equal one, step by step, and the plumbing between host and devices."""

from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import pytest
from random_weights import random_variables
from tiny_model import CLASSES, tiny_model

from bifpn_jax.errors import UserError
from bifpn_jax.inference import PREDICT_FIELDS, predict_step
from bifpn_jax.losses import LossSettings
from bifpn_jax.models.detector import make_anchors
from bifpn_jax.train import devices
from bifpn_jax.train.gradients import TRAIN_FIELDS
from bifpn_jax.train.optimizer import make_optimizer
from bifpn_jax.train.state import TrainState, create_state
from bifpn_jax.train.step import make_train_step

HW, BATCH, STEPS = (128, 128), 8, 3
MAX_DECAY = 0.15  # above the average's warm-up at step 0, below it at step 1


def draw_batch(seed):
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(0, 128, (BATCH, 5, 2, 2)), axis=2)
    labels = rng.integers(0, CLASSES, (BATCH, 5))
    labels[np.arange(5)[None] >= rng.integers(0, 6, BATCH)[:, None]] = -1
    labels[3] = -1  # a device without any object
    # Bright images on some devices, dark ones on others.
    image = rng.integers(0, 128, (BATCH, *HW, 3)) + 16 * np.arange(BATCH)[:, None, None, None]
    return {
        "image": image.astype(np.uint8),
        "content_hw": rng.integers(80, 129, (BATCH, 2)).astype(np.int32),
        "boxes": corners.reshape(BATCH, 5, 4).astype(np.float32),
        "labels": labels.astype(np.int32),
        "image_id": np.arange(BATCH),
        "scale": rng.uniform(1, 3, BATCH).astype(np.float32),
        "original_hw": rng.integers(40, 200, (BATCH, 2)).astype(np.int32),
    }


def schedule(step):
    return 0.01 * (step + 1)


class Compilations:
    """Counts the programs that are compiled inside the `with` block."""

    def __enter__(self):
        self.count, self.active = 0, True
        jax.monitoring.register_event_duration_secs_listener(self.listen)
        return self

    def listen(self, event, duration, **kwargs):
        self.count += self.active and event == "/jax/core/compile/backend_compile_duration"

    def __exit__(self, *exception):
        self.active = False


class Run(NamedTuple):
    """States on the host, before the first step and after every one, and what a step gave."""

    states: list[TrainState]
    metrics: list[dict[str, np.ndarray]]
    compilations: list[int]


@pytest.fixture(scope="module")
def batches():
    return [draw_batch(seed) for seed in range(STEPS)]


@pytest.fixture(scope="module")
def variables():
    return random_variables(tiny_model(), jax.ShapeDtypeStruct((1, *HW, 3), np.float32))


@pytest.fixture(scope="module")
def optimizer(variables):
    return make_optimizer(schedule, variables["params"])


def make_step(optimizer, axis_name, **settings):
    model = tiny_model(axis_name=axis_name, **settings)
    return make_train_step(
        model=model,
        anchors=make_anchors(model, HW),
        optimizer=optimizer,
        schedule=schedule,
        settings=LossSettings(),
        max_ema_decay=MAX_DECAY,
        seed=5,
    )


def run(step, state, batches):
    run = Run([jax.device_get(state)], [], [])
    for batch in batches:
        with Compilations() as compilations:
            state, metrics = step(state, batch)
        run.states.append(jax.device_get(state))
        run.metrics.append(jax.device_get(metrics))
        run.compilations.append(compilations.count)
    return run


@pytest.fixture(scope="module")
def one(variables, optimizer, batches):
    """Three steps on one device with the whole batch."""
    step = jax.jit(make_step(optimizer, None))
    parts = [{k: batch[k] for k in TRAIN_FIELDS} for batch in batches]
    return run(step, create_state(variables, optimizer), parts)


@pytest.fixture(scope="module")
def mapped_step(optimizer):
    return devices.map_train_step(make_step(optimizer, devices.AXIS))


@pytest.fixture(scope="module")
def eight(mapped_step, variables, optimizer, batches):
    """The same on eight devices."""
    state = devices.replicate(create_state(variables, optimizer))
    return run(mapped_step, state, [devices.split(batch, TRAIN_FIELDS) for batch in batches])


@pytest.mark.slow
def test_with_norms_over_groups_all_devices_have_one_state(variables, optimizer, batches):
    """Losses and gradients are of other statistics, whose running means are averaged."""
    step = devices.map_train_step(make_step(optimizer, devices.AXIS, batch_norm_group=2))
    state = devices.replicate(create_state(variables, optimizer))
    state, metrics = step(state, devices.split(batches[0], TRAIN_FIELDS))
    assert np.isfinite(metrics["loss"])
    for leaf in jax.tree.leaves(state):
        copies = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(copies) == 8
        for copy in copies[1:]:
            np.testing.assert_array_equal(copy, copies[0])
    before = jax.tree.leaves(variables["batch_stats"])
    after = jax.tree.leaves(jax.device_get(state.batch_stats))
    assert all(np.any(a != b) for a, b in zip(before, after, strict=True))


def test_groups_of_devices_are_checked():
    for group in (0, 1, 2, 8):
        devices.check_batch_norm_group(group)
    with pytest.raises(UserError, match="groups of 3 cannot split 8 devices"):
        devices.check_batch_norm_group(3)


def test_there_are_eight_devices():
    assert devices.device_count() == 8
    assert (devices.process_index(), devices.process_count()) == (0, 1)


def test_eight_devices_train_like_one(one, eight):
    """Loss, parameters, batch statistics, optimizer and both averages, with dropped branches."""
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, eight.metrics, one.metrics)
    for ours, expected in zip(eight.states, one.states, strict=True):
        jax.tree.map(close, ours.replace(opt_state=None), expected.replace(opt_state=None))
        # Sums of gradients, which the learning rate has not scaled down yet.
        rougher = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-4)
        jax.tree.map(rougher, ours.opt_state, expected.opt_state)


def test_the_steps_change_what_they_should(one):
    for before, after in zip(one.states[:-1], one.states[1:], strict=True):
        moved = jax.tree.map(lambda a, b: np.any(a != b), before, after)
        assert all(jax.tree.leaves((moved.batch_stats, moved.ema_batch_stats, moved.step)))
        # Not the biases in front of a batch norm, and norms of the box head at a level without a
        # match: they have no gradient.
        assert np.mean(jax.tree.leaves(moved.params)) > 0.8
    assert [int(state.step) for state in one.states] == [0, 1, 2, 3]
    losses = [float(metrics["loss"]) for metrics in one.metrics]
    assert np.isfinite(losses).all()
    assert len(set(losses)) == STEPS


def test_metrics_are_those_of_the_whole_batch(one, eight, batches):
    names = {"loss", "class_loss", "box_loss", "num_positives", "gradient_norm", "learning_rate"}
    for step, metrics in enumerate(eight.metrics):
        assert set(metrics) == names
        assert {value.shape for value in metrics.values()} == {()}
        assert metrics["learning_rate"] == np.float32(schedule(step))
        total = metrics["class_loss"] + 50 * metrics["box_loss"]
        assert metrics["loss"] == pytest.approx(total, rel=1e-6)
        # Every object has an anchor at least.
        assert metrics["num_positives"] >= np.sum(batches[step]["labels"] >= 0)


def test_the_averages_warm_up(one):
    """decay = min(0.15, (1 + step) / (10 + step)) of the number of updates before the step."""
    for step, (before, after) in enumerate(zip(one.states[:-1], one.states[1:], strict=True)):
        decay = min(MAX_DECAY, (1 + step) / (10 + step))
        expected = jax.tree.map(
            lambda old, new, d=decay: d * old + (1 - d) * new,
            before.variables(ema=True),
            after.variables(ema=False),
        )
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6),
            after.variables(ema=True),
            expected,
        )
    first = one.states[0]
    jax.tree.map(
        np.testing.assert_array_equal, first.variables(ema=True), first.variables(ema=False)
    )


def test_the_step_is_compiled_once(eight):
    assert eight.compilations[0] == 2
    assert not any(eight.compilations[1:])


def test_the_state_is_donated_and_the_variables_it_began_with_are_not(
    mapped_step, variables, optimizer, batches
):
    variables = jax.device_put(variables)
    state = devices.replicate(create_state(variables, optimizer))
    after, _ = mapped_step(state, devices.split(batches[0], TRAIN_FIELDS))
    # The update does not read the old statistics, which are gone with the old state.
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.replace(batch_stats=None)))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((after, variables)))


def test_a_state_is_shaped_as_on_one_device(variables, optimizer):
    state = devices.replicate(create_state(variables, optimizer))
    shapes = devices.replicated_shapes(state)
    for leaf, shape in zip(jax.tree.leaves(state), jax.tree.leaves(shapes), strict=True):
        assert (leaf.shape, leaf.dtype, leaf.sharding) == (shape.shape, shape.dtype, shape.sharding)
        assert leaf.is_fully_replicated
        assert len(leaf.devices()) == 8
    kernel = state.params["backbone"]["stem_conv"]["kernel"]
    assert kernel.shape == variables["params"]["backbone"]["stem_conv"]["kernel"].shape


def test_split_sends_consecutive_rows_to_each_device():
    batch = {"image": np.arange(16 * 2).reshape(16, 2), "labels": np.arange(16), "image_id": None}
    parts = devices.split(batch, ("image", "labels"))
    assert set(parts) == {"image", "labels"}
    assert parts["image"].shape == (8, 2, 2)
    np.testing.assert_array_equal(parts["labels"], np.arange(16).reshape(8, 2))
    assert len(parts["labels"].devices()) == 8


def test_split_and_map_give_the_rows_back_in_order():
    def double(variables, batch):
        return {"rows": batch["rows"] * variables}

    batch = {"rows": np.arange(48.0, dtype=np.float32).reshape(16, 3)}
    run = devices.map_predict_step(double)
    out = run(devices.replicate(np.float32(2)), devices.split(batch, ("rows",)))
    np.testing.assert_array_equal(out["rows"], 2 * batch["rows"])


def test_eight_devices_predict_like_one(variables, batches):
    model = tiny_model()
    anchors = make_anchors(model, HW)
    step = partial(predict_step, model=model, anchors=anchors, max_detections=10)
    batch = {k: batches[0][k] for k in PREDICT_FIELDS}
    whole = jax.jit(step)(variables, batch)
    split = devices.map_predict_step(step)(
        devices.replicate(variables), devices.split(batch, PREDICT_FIELDS)
    )
    assert whole.boxes.shape == (BATCH, 10, 4)
    np.testing.assert_array_equal(split.labels, whole.labels)
    np.testing.assert_allclose(split.scores, whole.scores, rtol=1e-5)
    np.testing.assert_allclose(split.boxes, whole.boxes, rtol=1e-4, atol=1e-3)
    height, width = np.moveaxis(batch["original_hw"], 1, 0)
    assert (whole.boxes.max((1, 2)) <= np.maximum(height, width)).all()


def test_a_batch_must_divide_evenly():
    assert devices.check_batch_size(16) == 16
    for size in (0, 4, 12, -8):
        with pytest.raises(UserError) as error:
            devices.check_batch_size(size)
        assert f"batch size {size} cannot be split over 8 devices" in str(error.value)
        assert "multiple of 8" in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(("size", "rounded"), [(1, 8), (8, 8), (9, 16)])
def test_an_evaluation_batch_is_rounded_up(size, rounded):
    assert devices.round_up_batch_size(size) == rounded


class Batches:
    """Host batches, and the number of those read as the position."""

    def __init__(self, count):
        self.count, self.read = count, 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.read == self.count:
            raise StopIteration
        self.read += 1
        return {"labels": np.full(8, self.read), "image_id": np.full(8, 10 * self.read)}

    def get_state(self):
        return {"read": self.read}


@pytest.mark.parametrize("count", [0, 1, 4])
def test_prefetch_yields_every_batch_with_the_position_after_it(count):
    iterator = Batches(count)
    seen = []
    for on_devices, host, position in devices.prefetch(iterator, ("labels",)):
        assert set(on_devices) == {"labels"}
        assert set(host) == {"image_id"}
        assert len(on_devices["labels"].devices()) == 8
        number = int(on_devices["labels"][0, 0])
        assert host["image_id"][0] == 10 * number
        assert position == {"read": number}
        # The next one has been read.
        assert iterator.read == min(number + 1, count)
        seen.append(number)
    assert seen == list(range(1, count + 1))


def test_the_optimizer_state_of_a_new_run_is_empty(variables, optimizer):
    state = create_state(variables, optimizer)
    assert int(state.step) == 0
    traces = [leaf for leaf in jax.tree.leaves(state.opt_state) if np.ndim(leaf)]
    assert len(traces) == len(jax.tree.leaves(variables["params"]))
    assert not any(np.asarray(leaf).any() for leaf in traces)
