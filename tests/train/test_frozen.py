"""Frozen layers: no gradient, no update, batch norms in evaluation mode."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util
from quick_compilation import quick_compilation
from random_weights import random_variables

from bifpn_jax.models.detector import create_model, make_anchors
from bifpn_jax.train.optimizer import make_optimizer
from bifpn_jax.train.state import create_state
from bifpn_jax.train.step import LossSettings, train_step

TINY = {"backbone": "nano", "width": 8, "network_repeats": 1, "head_repeats": 1, "num_classes": 3}


@functools.cache
def setting():
    """Model, variables and a batch."""
    model = create_model("d0", **TINY, max_level=5, image_hw=(64, 64))
    variables = random_variables(model, jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32))
    rng = np.random.default_rng(1)
    batch = {
        "image": rng.integers(0, 256, (2, 64, 64, 3), np.uint8),
        "content_hw": np.full((2, 2), 64, np.int32),
        "boxes": np.array([[[4, 4, 40, 40]], [[20, 8, 60, 50]]], np.float32),
        "labels": np.array([[0], [2]], np.int32),
    }
    return model, variables, batch


@functools.cache
def step(freeze):
    """State before and after one step, as flat dicts by name; compiled once for all tests."""
    model, variables, batch = setting()
    schedule = optax.constant_schedule(0.1)
    optimizer = make_optimizer(schedule, variables["params"], freeze=freeze)
    run = partial(
        train_step,
        model=model,
        anchors=make_anchors(model, (64, 64)),
        optimizer=optimizer,
        schedule=schedule,
        settings=LossSettings(),
        max_ema_decay=0.0,
        seed=0,
        freeze=freeze,
    )
    state = create_state(variables, optimizer)
    with quick_compilation():
        after, metrics = jax.jit(run)(state, batch)
    flat = [
        traverse_util.flatten_dict(jax.device_get(tree), sep="/")
        for tree in (variables["params"], after.params, variables["batch_stats"], after.batch_stats)
    ]
    return *flat, metrics


def test_what_is_frozen_stays_and_the_rest_moves():
    params, new_params, stats, new_stats, metrics = step("backbone")
    moved = {name for name, value in params.items() if np.any(new_params[name] != value)}
    assert {name.split("/")[0] for name in moved} == {"feature_network", "class_head", "box_head"}
    for name, value in stats.items():
        assert np.any(new_stats[name] != value) != name.startswith("backbone/"), name
    assert np.isfinite(float(metrics["loss"]))


def test_a_frozen_backbone_computes_as_in_evaluation():
    model = setting()[0]
    _, _, _, free_stats, _ = step(None)
    _, _, _, frozen_stats, _ = step("backbone")
    # The first batch norm behind the backbone sees other features than with a free backbone.
    name = next(n for n in free_stats if n.startswith("feature_network/") and n.endswith("bn/mean"))
    assert np.any(free_stats[name] != frozen_stats[name])
    assert jnp.size(free_stats[name]) == model.width


def test_a_part_of_a_layer_can_be_frozen_without_its_batch_norm():
    params, new_params, stats, new_stats, _ = step(r"backbone/.*/kernel")
    for name, value in params.items():
        frozen = name.startswith("backbone/") and name.endswith("/kernel")
        if frozen:
            np.testing.assert_array_equal(new_params[name], value, err_msg=name)
    assert all(np.any(new_stats[name] != value) for name, value in stats.items())
