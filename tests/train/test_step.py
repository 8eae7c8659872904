"""One training step of D0 against effdet's in float64 (see the reference data's README)."""

import json
import re
import zlib
from typing import NamedTuple

import jax
import numpy as np
import pytest
from flax import traverse_util
from random_weights import state_dict_by_formula

from bifpn_jax.losses import LossSettings
from bifpn_jax.models.detector import create_model, make_anchors
from bifpn_jax.train.gradients import assign, loss_fn
from bifpn_jax.weights import load_weights
from bifpn_jax.weights.naming import effdet


class Step(NamedTuple):
    """Loss, by-products and gradients, the latter two by effdet's names and in its layout."""

    loss: np.ndarray
    metrics: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]
    statistics_before: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def reference(shared):
    with np.load(shared / "goldens" / "train_d0_256.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def step(shared, reference):
    """One step of ours; compiled once, for half a minute."""
    facts = json.loads((shared / "goldens" / "tf_efficientdet_d0.json").read_text())
    model = create_model("d0")
    variables = load_weights(state_dict_by_formula(facts["state_dict"]), model)
    images = np.random.RandomState(21).standard_normal((2, 256, 256, 3)).astype(np.float32)
    labels = reference["labels_1based"].astype(np.int32)

    def f(params, batch_stats, images, boxes, labels):
        assigned = assign(make_anchors(model, (256, 256)), boxes, labels, 0.5, None)
        loss, (statistics, metrics) = loss_fn(
            params,
            batch_stats,
            images,
            assigned.targets,
            assigned.normalizer,
            jax.random.key(0),
            model=model,
            anchors=make_anchors(model, (256, 256)),
            settings=LossSettings(),
        )
        return loss, (statistics, {**metrics, "num_positives": assigned.num_positives})

    run = jax.jit(jax.value_and_grad(f, has_aux=True))
    (loss, (statistics, metrics)), gradients = run(
        variables["params"],
        variables["batch_stats"],
        images,
        reference["boxes_yxyx"],
        np.where(labels > 0, labels - 1, -1),
    )

    def by_effdet_name(tree):
        named = {}
        for path, value in traverse_util.flatten_dict(jax.device_get(tree)).items():
            value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
            named[effdet.entries(path, model)[0]] = value.astype(np.float64)
        return named

    return Step(
        loss,
        metrics,
        by_effdet_name(gradients),
        by_effdet_name(variables["batch_stats"]),
        by_effdet_name(statistics),
    )


def test_the_loss_agrees_with_effdet(reference, step):
    losses = [step.loss, step.metrics["class_loss"], step.metrics["box_loss"]]
    np.testing.assert_allclose(losses, reference["losses_total_class_box"], rtol=1e-5)


def test_the_number_of_positives_agrees_with_effdet(reference, step):
    assert step.metrics["num_positives"] == reference["num_positives"].sum()


def bound(norm, reference):
    """Largest deviation of a gradient from effdet's.

    A thousandth of its own norm, for float32 through two hundred layers. But a bias that a batch
    norm follows, directly or behind a 1x1 convolution, has no gradient at all: it moves every
    activation of a channel and the channel's mean alike, and the loss stays as it is (1e-12 or less
    in the reference). What float32 leaves there is the rounding error of a sum that cancels, whose
    terms are of the size of the other gradients: about one unit in the last place, 6e-8, of the
    global norm, whatever its own is.
    """
    return 1e-3 * norm + 1e-7 * reference["global_grad_norm"]


def test_every_gradient_agrees_with_effdet(reference, step):
    names = [str(name) for name in reference["grad_names"]]
    assert len(names) == 460
    assert set(names) == set(step.gradients)
    for name, norm, samples in zip(
        names, reference["grad_norms"], reference["grad_samples"], strict=True
    ):
        gradient = step.gradients[name]
        rng = np.random.RandomState(zlib.crc32(name.encode()))
        chosen = gradient.ravel()[rng.randint(0, gradient.size, 4)]
        largest = bound(norm, reference)
        assert abs(np.linalg.norm(gradient) - norm) <= largest, name
        np.testing.assert_allclose(chosen, samples, rtol=0, atol=largest, err_msg=name)
    total = np.sqrt(sum(np.sum(gradient**2) for gradient in step.gradients.values()))
    assert total == pytest.approx(reference["global_grad_norm"], rel=1e-5)


def test_only_biases_before_a_batch_norm_vanish_by_cancelling(reference):
    """Nothing else needs the second term of `bound`."""
    norms = dict(zip(map(str, reference["grad_names"]), reference["grad_norms"], strict=True))
    vanishing = {name for name, norm in norms.items() if 0 < norm < 1e-10}
    in_a_convolution = ("conv_pw.bias", "conv.conv.bias")
    before_a_norm = {
        name
        for name, norm in norms.items()
        if norm > 0 and name.endswith(in_a_convolution) and ".predict." not in name
    }
    # The last norm of a backbone block: what reads it begins with a 1x1 convolution and a norm.
    last_norm = re.compile(r"backbone\.blocks\.(0\.0\.bn2|[1-6]\.\d\.bn3)\.bias")
    before_an_expansion = set(filter(last_norm.fullmatch, norms))
    assert len(before_an_expansion) == 16
    assert vanishing == before_a_norm | before_an_expansion
    assert min(norm for norm in norms.values() if norm >= 1e-10) > 1e-8


def test_what_has_no_influence_has_no_gradient(reference, step):
    """Edges whose weight is negative, and the box head's norms at levels without an object."""
    names = [str(name) for name in reference["grad_names"]]
    unused = {name for name, n in zip(names, reference["grad_norms"], strict=True) if n == 0}
    assert len(unused) == 26
    assert unused == {name for name, gradient in step.gradients.items() if not gradient.any()}


def test_the_batch_statistics_agree_with_effdet(reference, step):
    """The means of the batch that both runs moved their running means by.

    The reference moved those of its backbone by a tenth and the others by a hundredth; here it is
    a hundredth everywhere, as published.
    """
    stored = [name for name in reference if name.startswith("bn/")]
    assert len(stored) == 18
    for entry in stored:
        name = entry.removeprefix("bn/")
        before = step.statistics_before[name]
        momentum = 0.1 if name.startswith("backbone.") else 0.01
        expected = (reference[entry] - (1 - momentum) * before) / momentum
        batch_mean = (step.statistics[name] - 0.99 * before) / 0.01
        # Dividing by the momentum enlarges float32's rounding of the stored numbers by a hundred.
        spread = np.abs(expected).max()
        np.testing.assert_allclose(batch_mean, expected, rtol=0, atol=1e-4 * spread, err_msg=name)
