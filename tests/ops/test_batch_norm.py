"""Batch normalisation and its written-out gradient against autodiff of the plain formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bifpn_jax.models.layers import ACTIVATIONS
from bifpn_jax.ops.batch_norm import affine, batch_normalize

EPSILON = 1e-3


def plain(x, scale, bias, activation):
    """The definition, in the precision of its arguments."""
    mean, var = (moment((0, 1, 2), keepdims=True) for moment in (x.mean, x.var))
    scale, bias = (v[None, None, None] for v in (scale, bias))
    y = (x - mean) / jnp.sqrt(var + EPSILON) * scale + bias
    return activation(y) if activation else y


def draw(shape, dtype):
    keys = jax.random.split(jax.random.key(0), 4)
    x = 3 + 2 * jax.random.normal(keys[0], shape)
    g = jax.random.normal(keys[1], shape)
    scale, bias = (jax.random.normal(key, shape[-1:]) for key in keys[2:])
    return x.astype(dtype), scale, bias, g.astype(dtype)


@pytest.mark.parametrize("activation", ["", *ACTIVATIONS])
@pytest.mark.parametrize("shape", [(2, 8, 8, 5), (3, 7, 5, 4), (1, 1, 2, 3)])
def test_values_and_gradients_are_those_of_the_formula(activation, shape):
    x, scale, bias, g = draw(shape, jnp.float32)
    act = ACTIVATIONS.get(activation)
    expected, pull_back = jax.vjp(lambda *args: plain(*args, act), x, scale, bias)
    got, ours = jax.vjp(lambda *args: batch_normalize(*args, EPSILON, None, act)[0], x, scale, bias)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    for a, b in zip(ours(g), pull_back(g), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("activation", ["", "swish"])
def test_bfloat16_is_rounded_at_the_ends_only(activation):
    x, scale, bias, g = draw((4, 9, 8, 6), jnp.bfloat16)
    act = ACTIVATIONS.get(activation)
    got, ours = jax.vjp(lambda *args: batch_normalize(*args, EPSILON, None, act)[0], x, scale, bias)
    wide = (x.astype(jnp.float32), scale, bias)
    expected, pull_back = jax.vjp(lambda *args: plain(*args, act), *wide)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.astype(jnp.float32), expected, rtol=2e-2, atol=2e-2)
    for a, b, like in zip(ours(g), pull_back(g.astype(jnp.float32)), (x, scale, bias), strict=True):
        assert a.dtype == like.dtype
        atol = 2e-2 * np.abs(b).max()
        np.testing.assert_allclose(a.astype(jnp.float32), b, rtol=2e-2, atol=atol)


def test_no_gradient_flows_through_the_statistics():
    x, scale, bias, _ = draw((2, 4, 4, 3), jnp.float32)

    def statistics(x):
        _, mean, var = batch_normalize(x, scale, bias, EPSILON)
        return mean.sum() + var.sum()

    np.testing.assert_array_equal(jax.grad(statistics)(x), 0)
    _, mean, var = batch_normalize(x, scale, bias, EPSILON)
    np.testing.assert_allclose(mean, x.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(var, x.var((0, 1, 2)), rtol=1e-4)


def test_nothing_as_large_as_the_input_is_kept_but_the_input():
    """What the activation gave is made once more, so that memory is not spent on it."""
    x, scale, bias, _ = draw((2, 16, 16, 8), jnp.float32)

    def loss(x):
        return jnp.sum(batch_normalize(x, scale, bias, EPSILON, None, ACTIVATIONS["swish"])[0])

    _, pull_back = jax.vjp(loss, x)
    large = [leaf for leaf in jax.tree.leaves(pull_back) if leaf.size == x.size]
    assert len(large) == 1
    np.testing.assert_array_equal(large[0], x)


def test_affine_computes_in_float32():
    x = jnp.full((1, 1, 1, 2), 3.0, jnp.bfloat16)
    out = affine(x, jnp.array([1.001, 2.0]), jnp.array([0.004, -1.0]))
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(out[0, 0, 0], jnp.array([3.007, 5.0], jnp.bfloat16))
