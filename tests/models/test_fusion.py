import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bifpn_jax.models.fusion import NORMALIZERS, Fusion, edge_weights, global_attention
from bifpn_jax.models.graphs import Node

WEIGHTS = np.array([0.5, -0.3, 2.0], np.float32)
FEATURES = [np.random.default_rng(i).normal(size=(2, 3, 4, 5)).astype(np.float32) for i in range(3)]
EXP = np.exp(WEIGHTS)

# The factor of each input, by the formulas of the paper's section 3.3.
FACTORS = {
    "unbounded": WEIGHTS,
    "softmax": EXP / EXP.sum(),
    "fast": np.array([0.5, 0.0, 2.0]) / (2.5 + 1e-4),
}

CHANNEL_WEIGHTS = np.random.default_rng(9).normal(size=(3, 5)).astype(np.float32)
POSITIVE = np.maximum(CHANNEL_WEIGHTS, 0)
CHANNEL_FACTORS = {
    "channel_softmax": np.exp(CHANNEL_WEIGHTS) / np.exp(CHANNEL_WEIGHTS).sum(0),
    "channel_fast": POSITIVE / (POSITIVE.sum(0) + 1e-4),
}


def test_the_methods_of_the_paper_the_plain_sum_and_the_channel_wise_ones_are_there():
    assert set(NORMALIZERS) >= {"sum", *FACTORS, *CHANNEL_FACTORS}


@pytest.mark.parametrize("method", FACTORS)
def test_fusion_follows_its_formula(method):
    out = Fusion(method).apply({"params": {"weights": WEIGHTS}}, FEATURES)
    expected = sum(f * x for f, x in zip(FACTORS[method], FEATURES, strict=True))
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", CHANNEL_FACTORS)
def test_channel_wise_fusion_weighs_every_channel_on_its_own(method):
    out = Fusion(method).apply({"params": {"weights": CHANNEL_WEIGHTS}}, FEATURES)
    factors = CHANNEL_FACTORS[method][:, None, None, None]
    expected = sum(f * x for f, x in zip(factors, FEATURES, strict=True))
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", [*FACTORS, *CHANNEL_FACTORS])
def test_weights_start_at_one(method):
    weights = Fusion(method).init(jax.random.key(0), FEATURES)["params"]["weights"]
    shape = (3, 5) if method in CHANNEL_FACTORS else (3,)
    np.testing.assert_array_equal(weights, np.ones(shape))


def test_attention_gates_the_fine_feature_by_the_maximum_of_the_coarse_one():
    fine, coarse = FEATURES[:2]
    gate = 1 / (1 + np.exp(-coarse.max((1, 2), keepdims=True)))
    out = global_attention(fine, coarse)
    np.testing.assert_allclose(out, fine * gate + coarse, rtol=1e-5, atol=1e-6)


def test_the_gradient_of_attention_goes_to_one_position_of_the_maximum():
    fine = FEATURES[0][:1, :, :, :1]
    coarse = np.full_like(fine, 0.5)  # all positions are the maximum
    coarse[0, 0, 1] = 0.2
    gate = 1 / (1 + np.exp(-0.5))
    gradient = np.array(jax.grad(lambda x: global_attention(fine, x).sum())(coarse))
    expected = np.ones_like(coarse)
    expected[0, 0, 0] += fine.sum() * gate * (1 - gate)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_edge_weights_are_normalised_by_each_nodes_own_fusion():
    graph = (Node(4, (0, 1)), Node(3, (0, 1), "sum"), Node(3, (0, 2), "fast"))
    params = {
        "cell_0": {
            "node_0_fusion": {"weights": np.log([1.0, 3.0])},
            "node_2_fusion": {"weights": np.array([3.0, -1.0])},
        },
        "level_6": {"conv": {"kernel": np.zeros((1, 1, 2, 2))}},
    }
    found = edge_weights(params, graph, "softmax")
    assert set(found) == {"cell_0/node_0", "cell_0/node_2"}
    np.testing.assert_allclose(found["cell_0/node_0"], [0.25, 0.75], rtol=1e-6)
    np.testing.assert_allclose(found["cell_0/node_2"], [3 / 3.0001, 0], rtol=1e-6)


def test_edge_weights_of_channel_wise_fusion_are_means():
    params = {"cell_1": {"node_0_fusion": {"weights": CHANNEL_WEIGHTS}}}
    (weights,) = edge_weights(params, (Node(4, (0, 1, 2)),), "channel_fast").values()
    np.testing.assert_allclose(weights, CHANNEL_FACTORS["channel_fast"].mean(1), rtol=1e-5)


def test_the_sum_has_no_parameters():
    assert Fusion("sum").init(jax.random.key(0), FEATURES) == {}
    np.testing.assert_allclose(Fusion("sum").apply({}, FEATURES), sum(FEATURES), rtol=1e-6)


def test_fast_fusion_gives_the_published_example():
    x = jnp.array([1.0, 3.0])[None, None, None]
    out, _ = Fusion("fast").init_with_output(jax.random.key(0), [x, x])
    np.testing.assert_allclose(out[0, 0, 0], [0.99995, 2.99985], rtol=1e-6)


def test_fast_fusion_of_negative_weights_is_zero_and_finite():
    params = {"weights": jnp.full(3, -1.0)}

    def total(params):
        return Fusion("fast").apply({"params": params}, FEATURES).sum()

    value, gradient = jax.value_and_grad(total)(params)
    assert value == 0
    np.testing.assert_array_equal(gradient["weights"], [0, 0, 0])


@pytest.mark.parametrize("method", NORMALIZERS)
def test_fusion_keeps_bfloat16_and_its_weights_float32(method):
    features = [x.astype(jnp.bfloat16) for x in FEATURES]
    out, variables = Fusion(method).init_with_output(jax.random.key(0), features)
    assert out.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
