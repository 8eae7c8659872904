"""Calibrated batch norms: the same function in evaluation, and nearly so in training."""

import jax
import numpy as np
import pytest
from flax import traverse_util
from random_weights import random_variables

from bifpn_jax.models.detector import create_model
from bifpn_jax.train.calibration import calibrate_batch_norms

TINY = {"backbone": "nano", "width": 8, "network_repeats": 1, "head_repeats": 1, "num_classes": 3}


@pytest.fixture(scope="module")
def setting():
    """A model whose statistics are made up, images, and the calibrated variables."""
    model = create_model("d0", **TINY, max_level=5, backbone_batch_norm_epsilon=1e-5)
    images = np.random.default_rng(0).standard_normal((3, 4, 64, 96, 3)).astype(np.float32)
    variables = random_variables(model, images[0])
    return model, variables, images, calibrate_batch_norms(model, variables, images)


def outputs(setting, variables, train):
    model, _, images, _ = setting

    def run(variables, images):
        result = model.apply(variables, images, train=train, mutable=["batch_stats"])
        return result[0].class_logits, result[1]

    logits, updates = jax.jit(run)(variables, images[0])
    return np.asarray(logits), updates


def test_evaluation_is_unchanged(setting):
    _, variables, _, calibrated = setting
    before, _ = outputs(setting, variables, train=False)
    after, _ = outputs(setting, calibrated, train=False)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-4 * before.std())


def test_training_starts_where_evaluation_is(setting):
    _, variables, _, calibrated = setting
    evaluated, _ = outputs(setting, calibrated, train=False)
    trained, _ = outputs(setting, calibrated, train=True)
    uncalibrated, _ = outputs(setting, variables, train=True)
    deviation = np.abs(trained - evaluated).std()
    assert deviation < 0.2 * np.abs(uncalibrated - evaluated).std()


def test_statistics_are_those_of_the_images(setting):
    model, variables, images, calibrated = setting
    # With one batch and momentum 0, training would store the very same statistics of the stem.
    one = calibrate_batch_norms(model, variables, images[:1])
    model = model.clone(batch_norm_momentum=0.0)
    _, updates = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]))(
        one, images[0]
    )
    stored, wanted = one["batch_stats"]["backbone"], updates["batch_stats"]["backbone"]
    for leaf in ("mean", "var"):
        np.testing.assert_allclose(
            stored["stem_bn"][leaf], wanted["stem_bn"][leaf], rtol=1e-4, atol=1e-6
        )
    assert jax.tree.structure(calibrated) == jax.tree.structure(variables)
    for name, value in traverse_util.flatten_dict(calibrated["params"], sep="/").items():
        if not name.endswith(("scale", "bias")):
            old = traverse_util.flatten_dict(variables["params"], sep="/")[name]
            np.testing.assert_array_equal(value, old, err_msg=name)


def test_without_images_there_is_nothing_to_measure(setting):
    model, variables, _, _ = setting
    with pytest.raises(ValueError, match="no images"):
        calibrate_batch_norms(model, variables, [])
