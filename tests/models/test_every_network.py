"""Every feature network with every fusion: it trains."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util
from quick_compilation import quick_compilation
from random_weights import random_variables

from bifpn_jax.models.detector import create_model, make_anchors
from bifpn_jax.models.feature_network import FeatureNetwork
from bifpn_jax.models.fusion import NORMALIZERS
from bifpn_jax.models.networks import NETWORKS, network_graph
from bifpn_jax.train.state import create_state
from bifpn_jax.train.step import LossSettings, train_step

PAIRS = [(network, fusion) for network in NETWORKS for fusion in NORMALIZERS]
SIZES = {3: (12, 10), 4: (6, 5), 5: (3, 3)}


@pytest.mark.parametrize(("network", "fusion"), PAIRS)
def test_a_gradient_step_of_the_network(network, fusion):
    """All parameters get a finite gradient, nearly all one that is not zero, and it goes down."""
    rng = np.random.default_rng(0)
    features = {
        level: jnp.asarray(rng.standard_normal((2, *hw, 4)), jnp.float32)
        for level, hw in SIZES.items()
    }
    model = FeatureNetwork(network_graph(network, 3, 7), 1, 8, fusion=fusion)
    variables = random_variables(model, features)
    wanted = None

    def loss(params):
        nonlocal wanted
        out, _ = model.apply({**variables, "params": params}, features, True, mutable=True)
        assert sorted(out) == [3, 4, 5, 6, 7]
        if wanted is None:
            shapes = {level: x.shape for level, x in out.items()}
            wanted = {k: rng.standard_normal(s).astype(np.float32) for k, s in shapes.items()}
        return sum(jnp.mean(jnp.square(out[level] - wanted[level])) for level in out)

    before, gradient = jax.value_and_grad(loss)(variables["params"])
    flat = traverse_util.flatten_dict(gradient, sep="/")
    assert all(np.isfinite(value).all() for value in flat.values())
    # A bias before a batch norm has no effect, nor the one of a feature that is all there is.
    still = [
        name
        for name, value in flat.items()
        if np.abs(value).max() < 1e-9 and not name.endswith("/bias")
    ]
    assert len(still) <= 2, still
    size = sum(float(jnp.vdot(value, value)) for value in flat.values())
    step = 0.02 * float(before) / size
    after = loss(jax.tree.map(lambda p, g: p - step * g, variables["params"], gradient))
    assert after < before


@pytest.mark.slow
@pytest.mark.parametrize(("network", "fusion"), PAIRS)
def test_a_training_step_of_the_detector(network, fusion):
    model = create_model(
        "d0",
        num_classes=3,
        backbone="nano",
        width=8,
        network_repeats=2,
        head_repeats=1,
        feature_network=network,
        fusion=fusion,
        image_hw=(64, 64),
    )
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    variables = random_variables(model, images.astype(np.float32))
    schedule = optax.constant_schedule(1e-3)
    optimizer = optax.sgd(schedule, momentum=0.9)
    step = partial(
        train_step,
        model=model,
        anchors=make_anchors(model, (64, 64)),
        optimizer=optimizer,
        schedule=schedule,
        settings=LossSettings(),
        max_ema_decay=0.9,
        seed=0,
    )
    batch = {
        "image": images,
        "content_hw": np.full((2, 2), 64, np.int32),
        "boxes": np.array([[[4, 4, 40, 30]], [[10, 20, 60, 60]]], np.float32),
        "labels": np.array([[0], [2]], np.int32),
    }
    state = create_state(variables, optimizer)
    with quick_compilation():
        new, metrics = jax.jit(step)(state, batch)
    assert np.isfinite(metrics["loss"])
    assert metrics["gradient_norm"] > 0
    changed = jax.tree.map(
        lambda a, b: bool(np.any(a != b)),
        new.params["feature_network"],
        state.params["feature_network"],
    )
    weights = [v for k, v in traverse_util.flatten_dict(changed).items() if k[-1] == "kernel"]
    assert all(weights)
