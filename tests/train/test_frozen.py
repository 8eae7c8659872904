"""Frozen layers: no gradient, no update, batch norms in evaluation mode."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util
from one_step import train_once
from random_weights import random_variables

from bifpn_jax.models.detector import create_model
from bifpn_jax.train.optimizer import make_optimizer

TINY = {"backbone": "nano", "width": 8, "network_repeats": 1, "head_repeats": 1, "num_classes": 3}


MODEL = create_model("d0", **TINY, max_level=5, image_hw=(64, 64))


@functools.cache
def step(freeze):
    """State before and after one step, as flat dicts by name; compiled once for all tests."""
    variables = random_variables(MODEL, jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32))
    optimizer = make_optimizer(optax.constant_schedule(0.1), variables["params"], freeze=freeze)
    after, metrics = train_once(MODEL, variables, optimizer, freeze=freeze)
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
    _, _, _, free_stats, _ = step(None)
    _, _, _, frozen_stats, _ = step("backbone")
    # The first batch norm behind the backbone sees other features than with a free backbone.
    name = next(n for n in free_stats if n.startswith("feature_network/") and n.endswith("bn/mean"))
    assert np.any(free_stats[name] != frozen_stats[name])
    assert jnp.size(free_stats[name]) == MODEL.width


def test_a_part_of_a_layer_can_be_frozen_without_its_batch_norm():
    params, new_params, stats, new_stats, _ = step(r"backbone/.*/kernel")
    for name, value in params.items():
        frozen = name.startswith("backbone/") and name.endswith("/kernel")
        if frozen:
            np.testing.assert_array_equal(new_params[name], value, err_msg=name)
    assert all(np.any(new_stats[name] != value) for name, value in stats.items())
