"""Shapes of what the first half of a step returns; its values are tested with the whole step."""

import jax
import jax.numpy as jnp

from bifpn_jax.train.gradients import found_shapes


def test_found_shapes_are_those_of_the_state():
    class State:
        params, batch_stats = {"a": jnp.zeros((2, 3))}, {"b": jnp.zeros(4, jnp.bfloat16)}

    found = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), found_shapes(State))
    assert found.gradients == {"a": ((2, 3), jnp.float32)}
    assert found.batch_stats == {"b": ((4,), jnp.bfloat16)}
    assert set(found.metrics) == {"loss", "class_loss", "box_loss", "num_positives"}
