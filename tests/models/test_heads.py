import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from random_weights import random_variables

from bifpn_jax.models.heads import CLASS_PRIOR_BIAS, Head

SIZES = {3: (7, 9), 4: (4, 5), 5: (2, 3), 6: (1, 2), 7: (1, 1)}


def features(width, batch=2):
    rng = np.random.default_rng(0)
    return {
        level: rng.standard_normal((batch, *hw, width)).astype(np.float32)
        for level, hw in SIZES.items()
    }


def init_shapes(model, inputs):
    return jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x), inputs)


def test_the_prior_is_one_percent():
    assert pytest.approx(-4.59512, abs=5e-6) == CLASS_PRIOR_BIAS
    assert 1 / (1 + np.exp(-CLASS_PRIOR_BIAS)) == pytest.approx(0.01)


@pytest.mark.parametrize("outputs", [36, 9, 27, 1800])
def test_output_shapes(outputs):
    out, _ = init_shapes(Head(outputs, 3, 16), features(16))
    assert out.shape == (2, sum(h * w for h, w in SIZES.values()), outputs)


@pytest.mark.parametrize(
    ("name", "width", "repeats", "levels", "classes", "boxes"),
    [
        ("d0", 64, 3, 5, 69_354, 19_044),
        ("d3", 160, 4, 5, 247_050, 122_436),
        ("d6", 384, 5, 5, 1_090_986, 792_996),
        ("d7x", 384, 5, 6, 1_094_826, 796_836),
    ],
)
def test_number_of_parameters(name, width, repeats, levels, classes, boxes):
    inputs = {level: np.zeros((1, 2, 2, width), np.float32) for level in range(3, 3 + levels)}
    for outputs, expected in ((810, classes), (36, boxes)):
        params = init_shapes(Head(outputs, repeats, width), inputs)[1]["params"]
        assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected, name


def test_convolutions_are_shared_and_batch_norms_are_not():
    params = init_shapes(Head(36, 2, 16), features(16))[1]["params"]
    norms = {f"bn_{i}_level_{level}" for i in range(2) for level in SIZES}
    assert set(params) == {"conv_0", "conv_1", "predictor"} | norms


def test_without_biases_only_batch_norms_and_the_predictor_have_one():
    params = init_shapes(Head(36, 2, 16, conv_bias=False), features(16))[1]["params"]
    paths = traverse_util.flatten_dict(params)
    assert ("conv_0", "pointwise", "bias") not in paths
    assert ("predictor", "pointwise", "bias") in paths
    with_bias = init_shapes(Head(36, 2, 16), features(16))[1]["params"]
    missing = set(traverse_util.flatten_dict(with_bias)) - set(paths)
    assert missing == {(f"conv_{i}", "pointwise", "bias") for i in range(2)}


def test_the_layers_are_applied_in_the_published_order():
    """Depthwise, pointwise with bias, the level's batch norm, activation; predictor without."""
    inputs = features(6)
    model = Head(5, 1, 6, activation=nn.relu6)
    variables = random_variables(model, inputs)
    params, stats = variables["params"], variables["batch_stats"]
    out = jax.jit(model.apply)(variables, inputs)

    def separable(x, layer):
        padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
        h, w = x.shape[1:3]
        kernel = layer["depthwise"]["kernel"]
        x = sum(padded[:, i : i + h, j : j + w] * kernel[i, j] for i in range(3) for j in range(3))
        return x @ layer["pointwise"]["kernel"][0, 0] + layer["pointwise"]["bias"]

    start = 0
    for level, x in inputs.items():
        bn, running = params[f"bn_0_level_{level}"], stats[f"bn_0_level_{level}"]
        x = separable(x, params["conv_0"])
        x = (x - running["mean"]) / np.sqrt(running["var"] + 1e-3) * bn["scale"] + bn["bias"]
        expected = separable(np.clip(x, 0, 6), params["predictor"])
        stop = start + x.shape[1] * x.shape[2]
        got = out[:, start:stop].reshape(expected.shape)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
        start = stop
    assert start == out.shape[1]


def test_kernels_start_with_variance_one_over_fan_in():
    model = Head(90, 1, 64, output_bias=CLASS_PRIOR_BIAS)
    inputs = {3: jnp.zeros((1, 2, 2, 64))}
    params = jax.jit(model.init)(jax.random.key(0), inputs)["params"]
    for path, value in traverse_util.flatten_dict(params).items():
        if path[-1] == "kernel":
            fan_in = 9 * 64 if "depthwise" in path else 64
            spread = float(value.std()) * np.sqrt(fan_in)
            assert spread == pytest.approx(1, abs=5 / np.sqrt(2 * value.size)), path
    np.testing.assert_allclose(params["predictor"]["pointwise"]["bias"], -4.59512, rtol=1e-6)
    np.testing.assert_array_equal(params["conv_0"]["pointwise"]["bias"], 0)
