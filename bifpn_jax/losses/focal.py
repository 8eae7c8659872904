"""Focal loss (arXiv 1708.02002).

One elementwise formula, so that XLA can fuse it with the sum and the gradient. All arithmetic is in
float32, whatever the dtype of the inputs.
"""

from functools import partial

import jax
import jax.numpy as jnp


def sigmoid_focal(
    logits: jax.Array,
    targets: jax.Array,
    *,
    alpha: float = 0.25,
    gamma: float = 1.5,
    label_smoothing: float = 0.0,
) -> jax.Array:
    """Elementwise focal loss of logits against targets (bool, or 0 and 1) of the same shape.

    It is ``alpha_t * (1 - p_t)**gamma * cross_entropy``; only the cross entropy uses smoothed
    targets. Loss and gradient are finite for every finite logit.
    """
    logits = jnp.asarray(logits, jnp.float32)
    return _focal(logits, targets.astype(bool), alpha, gamma, label_smoothing)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _focal(
    logits: jax.Array, targets: jax.Array, alpha: float, gamma: float, label_smoothing: float
) -> jax.Array:
    wrong, cross_entropy, modulator = _focal_parts(logits, targets, alpha, gamma)
    return modulator * (cross_entropy - label_smoothing / 2 * wrong)


def _focal_parts(
    logits: jax.Array, targets: jax.Array, alpha: float, gamma: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    # The logit of the wrong answer: 1 - p_t = sigmoid(wrong), log(1 - p_t) = wrong - cross_entropy.
    wrong = jnp.where(targets, -logits, logits)
    cross_entropy = jnp.maximum(wrong, 0) + jnp.log1p(jnp.exp(-jnp.abs(wrong)))
    modulator = jnp.where(targets, alpha, 1 - alpha) * jnp.exp(gamma * (wrong - cross_entropy))
    return wrong, cross_entropy, modulator


def _focal_forward(
    logits: jax.Array, targets: jax.Array, *settings: float
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _focal(logits, targets, *settings), (logits, targets)


def _focal_backward(
    alpha: float,
    gamma: float,
    label_smoothing: float,
    saved: tuple[jax.Array, jax.Array],
    cotangent: jax.Array,
) -> tuple[jax.Array, None]:
    # Recomputed from the logits: sharing would store arrays of the same size between the passes.
    logits, targets = jax.lax.optimization_barrier(saved)
    wrong, cross_entropy, modulator = _focal_parts(logits, targets, alpha, gamma)
    probability = jnp.exp(wrong - cross_entropy)
    smoothed = cross_entropy - label_smoothing / 2 * wrong
    slope = gamma * (1 - probability) * smoothed + probability - label_smoothing / 2
    slope = modulator * slope
    return cotangent * jnp.where(targets, -slope, slope), None


_focal.defvjp(_focal_forward, _focal_backward)
