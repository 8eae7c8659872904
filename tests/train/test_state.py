"""Initial values: a function of the seed; their shapes without computing them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bifpn_jax import create_model
from bifpn_jax.train.gradients import found_shapes
from bifpn_jax.train.state import init_variables, variable_shapes

NANO = {"backbone": "nano", "width": 8, "network_repeats": 1, "head_repeats": 1}


@pytest.fixture(scope="module")
def model():
    return create_model("d0", **NANO, num_classes=3, image_hw=(64, 64))


def shapes_of(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def test_the_seed_alone_decides(model):
    one, again, other = (init_variables(model, seed) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    pairs = zip(jax.tree.leaves(one["params"]), jax.tree.leaves(other["params"]), strict=True)
    assert any(not np.array_equal(a, b) for a, b in pairs)


def test_values_are_those_of_the_models_own_init(model):
    """To rounding: the program of `init_variables` is compiled with other options."""
    expected = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        init_variables(model, 0),
        expected,
    )


def test_shapes(model):
    shapes = shapes_of(init_variables(model, 0))
    assert shapes_of(variable_shapes(model)) == shapes
    assert shapes_of(jax.eval_shape(lambda: init_variables(model, 0))) == shapes


def test_found_shapes_are_those_of_the_state(model):
    class State:
        params, batch_stats = {"a": jnp.zeros((2, 3))}, {"b": jnp.zeros(4, jnp.bfloat16)}

    found = found_shapes(State)
    assert shapes_of(found.gradients) == {"a": ((2, 3), jnp.float32)}
    assert shapes_of(found.batch_stats) == {"b": ((4,), jnp.bfloat16)}
    assert set(found.metrics) == {"loss", "class_loss", "box_loss", "num_positives"}
