"""A batch in parts gives the gradient of the whole, where the parts have the same statistics."""

import jax
import numpy as np
import pytest
from one_step import train_once
from random_weights import random_variables
from tiny_model import tiny_model

from bifpn_jax.errors import UserError
from bifpn_jax.train import devices
from bifpn_jax.train.optimizer import make_optimizer

HW, PARTS = (64, 64), 2

MODEL = tiny_model(survival_prob=1.0, image_hw=HW)


def batch_of_twins():
    """The same two images twice, with other boxes, and none at all on one."""
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, 64, (4, 5, 2, 2)), axis=2)
    labels = rng.integers(0, 3, (4, 5))
    labels[1] = -1
    images = rng.integers(0, 256, (2, *HW, 3))
    return {
        "image": np.concatenate([images, images]).astype(np.uint8),
        "content_hw": np.array([[64, 50], [40, 64]] * 2, np.int32),
        "boxes": corners.reshape(4, 5, 4).astype(np.float32),
        "labels": labels.astype(np.int32),
    }


@pytest.fixture(scope="module")
def steps():
    """Variables, and (state, metrics) after a step with the batch in one part, and in two."""
    variables = random_variables(MODEL, jax.ShapeDtypeStruct((1, *HW, 3), np.float32))
    optimizer = make_optimizer(lambda step: 0.1, variables["params"])

    def run(accumulate):
        after = train_once(MODEL, variables, optimizer, batch_of_twins(), accumulate=accumulate)
        return jax.device_get(after)

    return variables, run(1), run(PARTS)


def test_parameters_and_metrics_are_those_of_the_whole_batch(steps):
    _, (whole, metrics), (parts, parts_metrics) = steps
    assert metrics["num_positives"] > 0
    for name, value in metrics.items():
        np.testing.assert_allclose(parts_metrics[name], value, rtol=1e-5, err_msg=name)
    for a, b in zip(jax.tree.leaves(parts.params), jax.tree.leaves(whole.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_running_statistics_are_updated_once_per_part(steps):
    """Twins have one mean, towards which the running mean goes twice as many steps."""
    variables, (whole, _), (parts, _) = steps
    before, once, twice = (
        tree["backbone"]["stem_bn"]["mean"]
        for tree in (variables["batch_stats"], whole.batch_stats, parts.batch_stats)
    )
    assert np.abs(once - before).max() > 1e-3
    np.testing.assert_allclose(twice - before, (1 + 0.99) * (once - before), rtol=1e-3, atol=1e-6)


def test_a_batch_that_cannot_be_cut_is_refused():
    assert devices.check_batch_size(48, accumulate=3) == 48
    with pytest.raises(UserError, match=r"6 images, which cannot be cut into 4 parts: change"):
        devices.check_batch_size(48, accumulate=4)
