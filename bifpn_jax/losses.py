"""Focal loss (arXiv 1708.02002) and Huber loss with EfficientDet's weights and normalisation.

Elementwise formulas, and a one-hot that is only ever a comparison, so that XLA can fuse all of it
with the sums and the gradient. All arithmetic is in float32, whatever the inputs are.
"""

from functools import partial

import jax
import jax.numpy as jnp

from bifpn_jax.matching import Targets


def sigmoid_focal(
    logits: jax.Array,
    targets: jax.Array,
    *,
    alpha: float = 0.25,
    gamma: float = 1.5,
    label_smoothing: float = 0.0,
) -> jax.Array:
    """Elementwise focal loss of logits against targets (bool, or 0 and 1) of the same shape.

    ``alpha_t * (1 - p_t)**gamma * cross_entropy``, where only the cross entropy sees smoothed
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
    # Computed from the logits once more: sharing would store arrays as large between the passes.
    logits, targets = jax.lax.optimization_barrier(saved)
    wrong, cross_entropy, modulator = _focal_parts(logits, targets, alpha, gamma)
    probability = jnp.exp(wrong - cross_entropy)
    smoothed = cross_entropy - label_smoothing / 2 * wrong
    slope = gamma * (1 - probability) * smoothed + probability - label_smoothing / 2
    slope = modulator * slope
    return cotangent * jnp.where(targets, -slope, slope), None


_focal.defvjp(_focal_forward, _focal_backward)


def huber(error: jax.Array, delta: float = 0.1) -> jax.Array:
    """Elementwise ``error**2 / 2`` up to delta, ``delta * (abs(error) - delta / 2)`` beyond."""
    size = jnp.abs(jnp.asarray(error, jnp.float32))
    quadratic = jnp.minimum(size, delta)
    return quadratic * (size - quadratic / 2)


def detection_loss(
    class_logits: jax.Array,
    box_codes: jax.Array,
    targets: Targets,
    normalizer: jax.Array,
    *,
    alpha: float = 0.25,
    gamma: float = 1.5,
    label_smoothing: float = 0.0,
    delta: float = 0.1,
    box_weight: float = 50.0,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss of a batch: ``class_loss + box_weight * box_loss``, and the two parts.

    As published, the box loss leaves out single components whose target is exactly 0, and divides
    by 4 per positive anchor.

    Args:
        class_logits: [B, A, K].
        box_codes: [B, A, 4] (ty, tx, th, tw).
        targets: of the batch, ``class_targets`` [B, A] and ``box_targets`` [B, A, 4].
        normalizer: [], the sum of ``num_positives`` over the batch, plus 1.
        alpha: weight of the positives, 1 - alpha that of the negatives.
        gamma: exponent of the focal modulator.
        label_smoothing: in [0, 1); the classes' targets become s / 2 and 1 - s / 2.
        delta: where the Huber loss becomes linear.
        box_weight: weight of the box loss in the total.

    Returns:
        total [] float32 and ``{"class_loss": [], "box_loss": []}`` (unweighted).
    """
    normalizer = jnp.asarray(normalizer, jnp.float32)
    classes = jnp.arange(class_logits.shape[-1])[None, None, :]
    focal = sigmoid_focal(
        class_logits,
        targets.class_targets[:, :, None] == classes,
        alpha=alpha,
        gamma=gamma,
        label_smoothing=label_smoothing,
    )
    class_loss = _sum(focal) / normalizer

    error = jnp.asarray(box_codes, jnp.float32) - targets.box_targets
    box_error = jnp.where(targets.box_targets != 0, huber(error, delta), 0.0)
    box_loss = jnp.sum(box_error) / (4 * normalizer)
    return class_loss + box_weight * box_loss, {"class_loss": class_loss, "box_loss": box_loss}


def _sum(x: jax.Array) -> jax.Array:
    """Sum of all entries of a float32 array of two axes or more.

    For a plain sum XLA:CPU hands a part of what computes the terms to a library, and stores the
    operands of that part as arrays; of a matrix product's operand it stores nothing else.
    """

    def on_cpu(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.dot(x, jnp.ones(x.shape[-1])))

    return jax.lax.platform_dependent(x, cpu=on_cpu, default=jnp.sum)
