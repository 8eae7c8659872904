"""The distributions that the published models start from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bifpn_jax.models.initializers import (
    backbone_depthwise_init,
    backbone_init,
    glorot_init,
    head_depthwise_init,
    head_init,
)


@pytest.mark.parametrize(
    ("init", "shape", "std"),
    [
        # Backbone: sqrt(2 / (kh * kw * out)); a depthwise kernel has one output per channel.
        (backbone_init, (3, 3, 32, 64), np.sqrt(2 / (9 * 64))),
        (backbone_init, (1, 1, 128, 64), np.sqrt(2 / 64)),
        (backbone_depthwise_init, (3, 3, 1, 1152), np.sqrt(2 / 9)),
        (backbone_depthwise_init, (5, 5, 1, 672), np.sqrt(2 / 25)),
        # Feature network: Glorot, uniform up to sqrt(6 / (fan_in + fan_out)); depthwise kernels
        # have fan_in 9 C and fan_out 9 in TensorFlow, the other way round here.
        (glorot_init, (1, 1, 320, 64), np.sqrt(2 / (320 + 64))),
        (glorot_init, (3, 3, 1, 1024), np.sqrt(2 / (9 * 1024 + 9))),
        # Heads: sqrt(1 / fan_in), with a depthwise kernel's fan_in 9 C.
        (head_init, (1, 1, 64, 810), np.sqrt(1 / 64)),
        (head_depthwise_init, (3, 3, 1, 1024), np.sqrt(1 / (9 * 1024))),
    ],
)
def test_initialisers_have_the_published_deviation(init, shape, std):
    values = np.asarray(init(jax.random.key(0), shape, jnp.float32))
    # The deviation of n normal draws is itself known to 1 / sqrt(2 n).
    assert values.std() == pytest.approx(std, rel=5 / np.sqrt(2 * values.size))
    assert abs(values.mean()) < 5 * std / np.sqrt(values.size)


@pytest.mark.parametrize(
    ("init", "largest"),
    [(backbone_init, np.inf), (glorot_init, np.sqrt(3)), (head_init, 2 / 0.87962566)],
)
def test_initialisers_have_the_published_shape(init, largest):
    """Normal, uniform, and normal cut at two deviations and widened to make up for it."""
    values = np.asarray(init(jax.random.key(1), (1, 1, 256, 256), jnp.float32))
    extent = np.abs(values).max() / values.std()
    if np.isinf(largest):
        assert extent > 4
    else:
        assert extent == pytest.approx(largest, rel=0.01)
