"""Weighted feature fusion (paper section 3.3), one scalar weight per edge."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array

FAST_EPSILON = 1e-4


def unbounded(weights: Array) -> Array:
    """The raw scalars."""
    return weights


def softmax(weights: Array) -> Array:
    """exp(w_i) / sum_j exp(w_j)."""
    return nn.softmax(weights)


def fast_normalized(weights: Array) -> Array:
    """relu(w_i) / (sum_j relu(w_j) + 1e-4)."""
    positive = nn.relu(weights)
    return positive / (jnp.sum(positive) + FAST_EPSILON)


NORMALIZERS: dict[str, Callable[[Array], Array] | None] = {
    "sum": None,
    "unbounded": unbounded,
    "softmax": softmax,
    "fast": fast_normalized,
}


class Fusion(nn.Module):
    """Adds features of one shape, each with a learned weight that starts at 1.

    Attributes:
        method: "sum" (no weights), "unbounded", "softmax" or "fast" (fast normalized).
    """

    method: str = "fast"

    @nn.compact
    def __call__(self, features: list[Array]) -> Array:
        """N arrays [B, H, W, C] -> one; the parameter `weights` is [N], in the order of inputs."""
        normalize = NORMALIZERS[self.method]
        if normalize is None:
            return sum(features[1:], features[0])
        raw = self.param("weights", nn.initializers.ones_init(), (len(features),), jnp.float32)
        weights = normalize(raw).astype(features[0].dtype)
        weighted = [weights[i] * feature for i, feature in enumerate(features)]
        return sum(weighted[1:], weighted[0])
