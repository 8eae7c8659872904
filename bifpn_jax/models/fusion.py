"""Weighted feature fusion (paper section 3.3): a weight per edge, or per edge and channel."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from bifpn_jax.errors import UserError
from bifpn_jax.models.graphs import Graph
from bifpn_jax.models.initializers import Initializer, ones_init
from bifpn_jax.named_parts import Parts

Array = jax.Array

FAST_EPSILON = 1e-4


def unbounded(weights: Array) -> Array:
    """The raw weights."""
    return weights


def softmax(weights: Array) -> Array:
    """exp(w_i) / sum_j exp(w_j) over the edges, the first axis."""
    return nn.softmax(weights, axis=0)


def fast_normalized(weights: Array) -> Array:
    """relu(w_i) / (sum_j relu(w_j) + 1e-4) over the edges, the first axis."""
    positive = nn.relu(weights)
    return positive / (jnp.sum(positive, axis=0, keepdims=True) + FAST_EPSILON)


# From raw weights [N] or [N, C] to factors of the same shape; None for no weights. A function of
# one's own is `fusion=FILE.py:NAME`.
NORMALIZERS = Parts(
    "fusion",
    {
        "sum": None,
        "unbounded": unbounded,
        "softmax": softmax,
        "fast": fast_normalized,
        "channel_softmax": softmax,
        "channel_fast": fast_normalized,
    },
)


class Fusion(nn.Module):
    """Adds features of one shape, each with a learned weight that starts at 1.

    Attributes:
        method: "sum" (no weights), "unbounded", "softmax", "fast" (fast normalized), or a function
            of one's own, also as "FILE.py:NAME". Where the name begins with "channel_", every
            channel has a weight of its own.
        weights_init: initialiser of the weights.
    """

    method: str | Callable[[Array], Array] = "fast"
    weights_init: Initializer = ones_init

    @nn.compact
    def __call__(self, features: Sequence[Array]) -> Array:
        """N arrays [B, H, W, C] -> one.

        The parameter `weights` is [N], in the order of the inputs, or [N, C].
        """
        normalize = NORMALIZERS.find(self.method)
        if normalize is None:
            return sum(features[1:], features[0])
        per_channel = _name(self.method).startswith("channel_")
        shape = (len(features), features[0].shape[-1]) if per_channel else (len(features),)
        raw = self.param("weights", self.weights_init, shape)
        weights = normalize(raw).astype(features[0].dtype)
        if per_channel:
            weights = weights[:, None, None, None]
        weighted = [weights[i] * feature for i, feature in enumerate(features)]
        return sum(weighted[1:], weighted[0])


def check_fusion(method: str | Callable[[Array], Array]) -> None:
    """Raises a UserError unless this is a fusion: a name, or a function that keeps the shape."""
    normalize = NORMALIZERS.find(method)
    if normalize is None:
        return
    weights = jax.ShapeDtypeStruct((3, 5) if _name(method).startswith("channel_") else (3,), "f4")
    try:
        shape = jax.eval_shape(normalize, weights).shape
    except Exception as error:
        raise UserError(
            f"fusion {_name(method)} fails for weights {weights.shape}: "
            f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        ) from error
    if shape != weights.shape:
        raise UserError(
            f"fusion {_name(method)} makes {shape} of weights {weights.shape}; it must keep their "
            "shape: it turns the raw weights of a node's inputs into factors."
        )


def _name(method: str | Callable[[Array], Array]) -> str:
    name = method if isinstance(method, str) else getattr(method, "__name__", str(method))
    return name.rpartition(":")[2]


def global_attention(fine: Array, coarse: Array) -> Array:
    """NAS-FPN's attention (arXiv 1904.07392): fine * sigmoid(max over H and W of coarse) + coarse.

    Args:
        fine: [B, H, W, C], from the finer level of the two.
        coarse: the same shape, resampled from the coarser level.
    """
    b, _, _, c = coarse.shape
    flat = coarse.reshape(b, -1, c)
    # The gradient of jnp.max divides by how many entries equal the maximum: none, and NaN, where
    # a compiler computes them once more with another rounding.
    is_peak = jnp.arange(flat.shape[1])[None, :, None] == jnp.argmax(flat, axis=1, keepdims=True)
    peak = jnp.sum(jnp.where(is_peak, flat, 0), axis=1)
    return fine * nn.sigmoid(peak)[:, None, None] + coarse


def edge_weights(params: Mapping[str, Any], graph: Graph, fusion: str) -> dict[str, Array]:
    """Normalised weights of every edge, what Figure 5 of the paper follows over the training.

    Args:
        params: of a `FeatureNetwork`.
        graph: of its cells.
        fusion: of its nodes that have none of their own.

    Returns:
        {"cell_0/node_3": [N]} with a weight per input, of channel-wise weights the mean; nodes
        that sum have none and are left out.
    """
    found = {}
    for name, cell in sorted(params.items()):
        for n, node in enumerate(graph):
            raw = cell.get(f"node_{n}_fusion") if name.startswith("cell_") else None
            if raw is not None:
                weights = NORMALIZERS.find(node.fusion or fusion)(jnp.asarray(raw["weights"]))
                found[f"{name}/node_{n}"] = weights.reshape(weights.shape[0], -1).mean(1)
    return found
