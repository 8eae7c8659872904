"""Sums, lowered per platform."""

import jax
import jax.numpy as jnp


def total(x: jax.Array) -> jax.Array:
    """Return the sum of all entries of a float32 array of two axes or more.

    For a plain sum, XLA:CPU leaves part of the computation of the terms to a library and stores the
    operands of that part as arrays. For the operand of a matrix product it stores nothing else.
    """

    def on_cpu(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.dot(x, jnp.ones(x.shape[-1])))

    return jax.lax.platform_dependent(x, cpu=on_cpu, default=jnp.sum)
