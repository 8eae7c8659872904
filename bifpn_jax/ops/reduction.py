"""Sums, lowered per platform."""

import jax
import jax.numpy as jnp


def total(x: jax.Array) -> jax.Array:
    """Sum of all entries of a float32 array of two axes or more.

    For a plain sum XLA:CPU hands a part of what computes the terms to a library, and stores the
    operands of that part as arrays; of a matrix product's operand it stores nothing else.
    """

    def on_cpu(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.dot(x, jnp.ones(x.shape[-1])))

    return jax.lax.platform_dependent(x, cpu=on_cpu, default=jnp.sum)
