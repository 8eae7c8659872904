"""Weighted feature fusion (paper section 3.3): a weight per edge, or per edge and channel."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from bifpn_jax.errors import UserError
from bifpn_jax.models.graphs import Graph
from bifpn_jax.models.initializers import Initializer, ones_init
from bifpn_jax.named_parts import Parts, failure

Array = jax.Array

FAST_EPSILON = 1e-4


def unbounded(weights: Array) -> Array:
    """Return the raw weights."""
    return weights


def softmax(weights: Array) -> Array:
    """Return exp(w_i) / sum_j exp(w_j) over the edges, the first axis."""
    return nn.softmax(weights, axis=0)


def fast_normalized(weights: Array) -> Array:
    """Return relu(w_i) / (sum_j relu(w_j) + 1e-4) over the edges, the first axis."""
    positive = nn.relu(weights)
    return positive / (jnp.sum(positive, axis=0, keepdims=True) + FAST_EPSILON)


# From raw weights [N] or [N, C] to factors of the same shape; None for no weights. A custom
# function is `fusion=FILE.py:NAME`.
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
    """Weighted sum of features of one shape, with learned weights that start at 1.

    Attributes:
        method: "sum" (no weights), "unbounded", "softmax", "fast" (fast normalized), or a custom
            function, also as "FILE.py:NAME". If the name begins with "channel_", there is a weight
            per channel.
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
    """Raise a UserError unless this is a fusion: a name, or a function that keeps the shape."""
    normalize = NORMALIZERS.find(method)
    if normalize is None:
        return
    weights = jax.ShapeDtypeStruct((3, 5) if _name(method).startswith("channel_") else (3,), "f4")
    try:
        made = jax.eval_shape(normalize, weights)
    except Exception as error:
        raise UserError(
            f"fusion {_name(method)} fails for weights {weights.shape}: {failure(error)[:300]}"
        ) from error
    if not hasattr(made, "shape"):
        raise UserError(
            f"fusion {_name(method)} returns {type(made).__name__}, not an array; is a return "
            "missing?"
        )
    shape = made.shape
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
    # The gradient of jnp.max divides by the number of entries equal to the maximum. If a compiler
    # recomputes them with different rounding, there are none and the gradient is NaN.
    is_peak = jnp.arange(flat.shape[1])[None, :, None] == jnp.argmax(flat, axis=1, keepdims=True)
    peak = jnp.sum(jnp.where(is_peak, flat, 0), axis=1)
    return fine * nn.sigmoid(peak)[:, None, None] + coarse


def edge_weights(params: Mapping[str, Any], graph: Graph, fusion: str) -> dict[str, Array]:
    """Return the normalised weights of every edge, which Figure 5 of the paper shows over training.

    Args:
        params: parameters of a `FeatureNetwork`.
        graph: the graph of its cells.
        fusion: the default fusion of its nodes.

    Returns:
        {"cell_0/node_3": [N]} with a weight per input, the mean if weights are per channel; nodes
        that sum have no weights and are skipped.
    """
    found = {}
    for name, cell in sorted(params.items()):
        for n, node in enumerate(graph):
            raw = cell.get(f"node_{n}_fusion") if name.startswith("cell_") else None
            if raw is not None:
                weights = NORMALIZERS.find(node.fusion or fusion)(jnp.asarray(raw["weights"]))
                found[f"{name}/node_{n}"] = weights.reshape(weights.shape[0], -1).mean(1)
    return found
