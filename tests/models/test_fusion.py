import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bifpn_jax.models.fusion import NORMALIZERS, Fusion

WEIGHTS = np.array([0.5, -0.3, 2.0], np.float32)
FEATURES = [np.random.default_rng(i).normal(size=(2, 3, 4, 5)).astype(np.float32) for i in range(3)]
EXP = np.exp(WEIGHTS)

# The factor of each input, by the formulas of the paper's section 3.3.
FACTORS = {
    "unbounded": WEIGHTS,
    "softmax": EXP / EXP.sum(),
    "fast": np.array([0.5, 0.0, 2.0]) / (2.5 + 1e-4),
}


def test_the_methods_are_the_papers_and_the_plain_sum():
    assert set(NORMALIZERS) == {"sum", *FACTORS}


@pytest.mark.parametrize("method", FACTORS)
def test_fusion_follows_its_formula(method):
    out = Fusion(method).apply({"params": {"weights": WEIGHTS}}, FEATURES)
    expected = sum(f * x for f, x in zip(FACTORS[method], FEATURES, strict=True))
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", FACTORS)
def test_weights_start_at_one(method):
    variables = Fusion(method).init(jax.random.key(0), FEATURES)
    np.testing.assert_array_equal(variables["params"]["weights"], [1, 1, 1])


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
