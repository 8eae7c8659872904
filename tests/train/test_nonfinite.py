"""A step that is left out because its loss or gradient is not finite."""

import jax
import numpy as np
import optax
import pytest
from one_step import jitted_step, small_batch
from random_weights import random_variables
from tiny_model import tiny_model

from bifpn_jax.train.optimizer import make_optimizer
from bifpn_jax.train.state import create_state

HW = (64, 64)
MODEL = tiny_model(image_hw=HW)


@pytest.fixture(scope="module")
def states():
    """The state before, and (state, metrics) after a good and a bad batch, which may be skipped."""
    variables = random_variables(MODEL, jax.ShapeDtypeStruct((1, *HW, 3), np.float32))
    optimizer = make_optimizer(optax.constant_schedule(0.1), variables["params"])
    good = small_batch(MODEL)
    bad = good | {"boxes": np.full_like(good["boxes"], np.nan)}
    step = jitted_step(MODEL, optimizer, skip_nonfinite=True)
    before = create_state(variables, optimizer)
    return jax.device_get((before, step(before, good), step(before, bad)))


def test_it_changes_nothing_but_the_number_of_steps(states):
    before, _, (after, metrics) = states
    assert not np.isfinite(metrics["loss"])
    assert (before.step, after.step) == (0, 1)
    counts = 0
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        if np.issubdtype(old.dtype, np.floating):
            np.testing.assert_array_equal(new, old)
        else:
            counts += 1
            assert new == old + 1
    assert counts == 2  # of the state, and of the learning rate's schedule


def test_a_finite_step_is_as_always(states):
    before, (after, metrics), _ = states
    assert np.isfinite(metrics["loss"])
    moved = [
        np.any(new != old)
        for old, new in zip(
            jax.tree.leaves(before.params), jax.tree.leaves(after.params), strict=True
        )
    ]
    assert np.mean(moved) > 0.9
