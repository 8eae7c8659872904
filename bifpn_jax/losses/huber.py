"""Huber loss of box codes. As published, components whose target is exactly 0 are skipped."""

import jax
import jax.numpy as jnp

from bifpn_jax.matching import Targets


def huber(error: jax.Array, delta: float = 0.1) -> jax.Array:
    """Elementwise ``error**2 / 2`` up to delta, ``delta * (abs(error) - delta / 2)`` beyond."""
    size = jnp.abs(jnp.asarray(error, jnp.float32))
    quadratic = jnp.minimum(size, delta)
    return quadratic * (size - quadratic / 2)


def huber_box_loss(
    box_codes: jax.Array, targets: Targets, anchors: jax.Array, *, delta: float = 0.1
) -> jax.Array:
    """Return the sum over all components, divided by the 4 of a box: [] float32.

    Args:
        box_codes: [B, A, 4] (ty, tx, th, tw).
        targets: the targets of the batch.
        anchors: [A, 4]; not used.
        delta: where the loss becomes linear.
    """
    error = jnp.asarray(box_codes, jnp.float32) - targets.box_targets
    return jnp.sum(jnp.where(targets.box_targets != 0, huber(error, delta), 0.0)) / 4
