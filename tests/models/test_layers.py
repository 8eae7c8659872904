"""Batch norm against numpy, and the split batch against the whole one."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bifpn_jax.errors import UserError
from bifpn_jax.models.layers import (
    BatchNorm,
    Conv,
    DepthwiseConv,
    SeparableConv,
    SqueezeExcite,
    StochasticDepth,
)

EPSILON, MOMENTUM = 1e-3, 0.99


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(1.0, 2.0, shape).astype(np.float32)


def batch_norm_variables(channels):
    rng = np.random.default_rng(1)

    def draw(low, high):
        return rng.uniform(low, high, channels).astype(np.float32)

    return {
        "params": {"scale": draw(0.5, 2), "bias": draw(-1, 1)},
        "batch_stats": {"mean": draw(-1, 1), "var": draw(0.5, 2)},
    }


def normalized(x, variables, mean, var):
    scale, bias = variables["params"]["scale"], variables["params"]["bias"]
    shape = (1, 1, 1, -1)
    scale, bias, mean, var = (np.reshape(v, shape) for v in (scale, bias, mean, var))
    return (x - mean) / np.sqrt(var + EPSILON) * scale + bias


def test_batch_norm_evaluates_with_running_statistics():
    x, variables = normal((2, 3, 5, 4)), batch_norm_variables(4)
    expected = normalized(x, variables, *variables["batch_stats"].values())
    out, updates = BatchNorm().apply(variables, x, False, mutable=["batch_stats"])
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, updates["batch_stats"], variables["batch_stats"])


def test_batch_norm_trains_with_batch_statistics_and_stores_the_unbiased_variance():
    x, variables = normal((2, 3, 5, 4)), batch_norm_variables(4)
    flat = x.reshape(-1, 4).astype(np.float64)
    expected = normalized(x, variables, flat.mean(0), flat.var(0))
    out, updates = BatchNorm().apply(variables, x, True, mutable=["batch_stats"])
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)
    before, after = variables["batch_stats"], updates["batch_stats"]
    batch = {"mean": flat.mean(0), "var": flat.var(0, ddof=1)}
    for name, value in batch.items():
        moved = MOMENTUM * before[name] + (1 - MOMENTUM) * value
        np.testing.assert_allclose(after[name], moved, rtol=1e-6)


def test_batch_norm_of_a_single_position_is_finite():
    x, variables = normal((1, 1, 1, 4)), batch_norm_variables(4)
    out, updates = BatchNorm().apply(variables, x, True, mutable=["batch_stats"])
    bias = variables["params"]["bias"].reshape(1, 1, 1, 4)
    np.testing.assert_allclose(out, bias, atol=1e-5)
    var = updates["batch_stats"]["var"]
    np.testing.assert_allclose(var, 0.99 * variables["batch_stats"]["var"], rtol=1e-6)


def test_batch_norm_starts_as_the_identity_and_init_does_not_count_as_a_step():
    variables = BatchNorm().init(jax.random.key(0), normal((2, 3, 3, 4)), True)
    start = {"params": {"scale": 1, "bias": 0}, "batch_stats": {"mean": 0, "var": 1}}
    jax.tree.map(np.testing.assert_array_equal, variables, start)
    assert {leaf.shape for leaf in jax.tree.leaves(variables)} == {(4,)}


def test_batch_norm_in_bfloat16_keeps_float32_statistics():
    """A mean far from zero, whose square alone would use up bfloat16's eight bits."""
    x = (normal((8, 9, 9, 4)) + 30).astype(jnp.bfloat16)
    variables = batch_norm_variables(4)
    out, updates = BatchNorm().apply(variables, x, True, mutable=["batch_stats"])
    flat = x.reshape(-1, 4).astype(np.float64)
    assert out.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {np.dtype("float32")}
    var = (updates["batch_stats"]["var"] - 0.99 * variables["batch_stats"]["var"]) / 0.01
    np.testing.assert_allclose(var, flat.var(0, ddof=1), rtol=1e-3)
    expected = normalized(np.asarray(x, np.float64), variables, flat.mean(0), flat.var(0))
    np.testing.assert_allclose(np.asarray(out, np.float64), expected, rtol=2**-8, atol=1e-3)


def test_batch_norm_with_another_epsilon():
    x, variables = normal((1, 2, 2, 4)), batch_norm_variables(4)
    variables["batch_stats"]["var"] *= 1e-4
    mean, var = variables["batch_stats"].values()
    expected = normalized(x, variables, mean, var + 1e-5 - EPSILON)
    out = BatchNorm(epsilon=1e-5).apply(variables, x, False)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


def batch_norm_step(axis_name, group=0):
    """(variables, x, weights) -> loss, running statistics, gradients of parameters and input."""

    def loss(params, x, batch_stats, weights):
        variables = {"params": params, "batch_stats": batch_stats}
        norm = BatchNorm(axis_name, group=group)
        out, updates = norm.apply(variables, x, True, mutable=["batch_stats"])
        return jnp.mean(out**2 * weights), updates["batch_stats"]

    def step(variables, x, weights):
        f = jax.value_and_grad(loss, (0, 1), has_aux=True)
        (value, stats), (of_params, of_x) = f(
            variables["params"], x, variables["batch_stats"], weights
        )
        if axis_name is not None:
            value, of_params = jax.lax.pmean((value, of_params), axis_name)
        return value, stats, of_params, of_x

    return step


@pytest.mark.devices(8)
def test_batch_norm_over_eight_devices_equals_one():
    x, weights = normal((16, 3, 5, 4)), normal((16, 3, 5, 4), 2)
    variables = batch_norm_variables(4)
    # The devices see quite different batches.
    x += 10 * np.arange(16, dtype=np.float32).reshape(16, 1, 1, 1)
    split = [a.reshape(8, 2, 3, 5, 4) for a in (x, weights)]
    *one, of_x = jax.jit(batch_norm_step(None))(variables, x, weights)
    mapped = jax.pmap(batch_norm_step("devices"), "devices", in_axes=(None, 0, 0))
    *eight, of_x_split = mapped(variables, *split)
    for device in range(8):
        part = jax.tree.map(lambda leaf, d=device: leaf[d], eight)
        for a, b in zip(jax.tree.leaves(part), jax.tree.leaves(one), strict=True):
            # Means of numbers up to 150, summed in another order.
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    # Each device's mean is over an eighth of the batch, so its gradients are eight times larger.
    of_x_split = of_x_split.reshape(x.shape) / 8
    np.testing.assert_allclose(of_x_split, of_x, rtol=1e-3, atol=1e-6)


@pytest.mark.devices(8)
@pytest.mark.parametrize("group", [1, 2, 4])
def test_batch_norm_over_groups_equals_one_over_each_group_s_devices(group):
    x, weights = normal((8, 2, 3, 5, 4)), normal((8, 2, 3, 5, 4), 2)
    x += 0.5 * np.arange(8, dtype=np.float32).reshape(8, 1, 1, 1, 1)
    variables = batch_norm_variables(4)
    mapped = jax.pmap(batch_norm_step("devices", group), "devices", in_axes=(None, 0, 0))
    value, stats, of_params, of_x = mapped(variables, x, weights)
    subset = jax.pmap(batch_norm_step("devices"), "devices", in_axes=(None, 0, 0))
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    parts = []
    for first in range(0, 8, group):
        members = slice(first, first + group)
        alone = subset(variables, x[members], weights[members])
        jax.tree.map(lambda a, b: close(a[members], b), (stats, of_x), (alone[1], alone[3]))
        parts.append((alone[0][0], jax.tree.map(lambda leaf: leaf[0], alone[2])))
    # What the step averages over all devices is the mean of the groups.
    mean = jax.tree.map(lambda *leaves: np.mean(leaves, 0), *parts)
    jax.tree.map(lambda a, b: close(a[0], b), (value, of_params), mean)


@pytest.mark.devices(8)
def test_batch_norm_over_groups_that_do_not_fit():
    step = jax.pmap(batch_norm_step("devices", 3), "devices", in_axes=(None, 0, 0))
    x = normal((8, 2, 3, 5, 4))
    with pytest.raises(
        UserError, match="groups of 3 cannot split 8 devices: set batch_norm_group=0"
    ):
        step(batch_norm_variables(4), x, x)


@pytest.mark.devices(8)
@pytest.mark.parametrize("devices", [2, 8])
def test_stochastic_depth_does_not_depend_on_the_number_of_devices(devices):
    x = jnp.ones((16, 2, 3, 4))
    rngs = {"stochastic_depth": jax.random.key(3)}

    def drop(x, axis_name=None):
        return StochasticDepth(0.6, axis_name).apply({}, x, True, rngs=rngs)

    whole = drop(x)
    assert 0 < (whole == 0).sum() < whole.size
    mapped = jax.pmap(lambda x: drop(x, "devices"), "devices")
    split = mapped(x.reshape(devices, -1, 2, 3, 4))
    np.testing.assert_array_equal(split.reshape(x.shape), whole)


def test_stochastic_depth_drops_whole_images_and_keeps_the_mean():
    x = jnp.broadcast_to(jnp.arange(1.0, 5.0)[None, None, None], (4000, 1, 2, 4))
    rngs = {"stochastic_depth": jax.random.key(0)}
    out = StochasticDepth(0.8).apply({}, x, True, rngs=rngs)
    kept = np.asarray(out[:, 0, 0, 0] != 0)
    np.testing.assert_allclose(out[kept], x[kept] / 0.8, rtol=1e-6)
    np.testing.assert_array_equal(out[~kept], 0)
    # Five standard deviations of a mean of 4000 draws.
    assert abs(kept.mean() - 0.8) < 5 * np.sqrt(0.8 * 0.2 / 4000)


@pytest.mark.parametrize(("survival_prob", "train"), [(0.5, False), (1.0, True)])
def test_stochastic_depth_needs_no_rng_where_it_does_nothing(survival_prob, train):
    x = normal((2, 3, 3, 4))
    np.testing.assert_array_equal(StochasticDepth(survival_prob).apply({}, x, train), x)


def test_stochastic_depth_keeps_bfloat16():
    rngs = {"stochastic_depth": jax.random.key(0)}
    x = jnp.ones((4, 2, 2, 3), jnp.bfloat16)
    assert StochasticDepth(0.7).apply({}, x, True, rngs=rngs).dtype == jnp.bfloat16


class Kernels(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = Conv(6, 3, 2, name="strided")(x)
        x = DepthwiseConv(5, name="depthwise")(x)
        x = x * SqueezeExcite(2, nn.relu6, name="squeeze_excite")(x)
        return SeparableConv(7, name="separable")(x)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parameters_have_the_documented_shapes_and_stay_float32(dtype):
    x = jax.ShapeDtypeStruct((2, 5, 8, 3), dtype)
    out, variables = jax.eval_shape(Kernels().init_with_output, jax.random.key(0), x)
    assert jax.tree.map(lambda leaf: leaf.shape, variables["params"]) == {
        "strided": {"kernel": (3, 3, 3, 6), "bias": (6,)},
        "depthwise": {"kernel": (5, 5, 1, 6)},
        "squeeze_excite": {
            "reduce": {"kernel": (1, 1, 6, 2), "bias": (2,)},
            "expand": {"kernel": (1, 1, 2, 6), "bias": (6,)},
        },
        "separable": {
            "depthwise": {"kernel": (3, 3, 1, 6)},
            "pointwise": {"kernel": (1, 1, 6, 7), "bias": (7,)},
        },
    }
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}
    assert out.shape == (2, 3, 4, 7)
    assert out.dtype == dtype


def test_squeeze_excite_gates_by_the_mean_of_the_image():
    x = normal((2, 3, 5, 6))
    layer = SqueezeExcite(2, nn.swish)
    params = jax.tree.map(
        lambda leaf: normal(leaf.shape, leaf.size), layer.init(jax.random.key(0), x)["params"]
    )

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    z = x.mean((1, 2)) @ params["reduce"]["kernel"][0, 0] + params["reduce"]["bias"][None]
    z = (z * sigmoid(z)) @ params["expand"]["kernel"][0, 0] + params["expand"]["bias"][None]
    expected = sigmoid(z)[:, None, None]
    np.testing.assert_allclose(layer.apply({"params": params}, x), expected, rtol=1e-4, atol=1e-5)
