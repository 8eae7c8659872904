"""Every feature network with every fusion: it trains."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util
from one_step import train_once
from random_weights import random_variables

from bifpn_jax.models.detector import create_model
from bifpn_jax.models.feature_network import FeatureNetwork
from bifpn_jax.models.fusion import NORMALIZERS
from bifpn_jax.models.networks import NETWORKS, network_graph

PAIRS = [(network, fusion) for network in NETWORKS for fusion in NORMALIZERS]
# Every network once and every fusion at least once.
SOME_PAIRS = list(zip(NETWORKS, itertools.cycle(NORMALIZERS)))
SIZES = {3: (12, 10), 4: (6, 5), 5: (3, 3)}
LEVELS = {**SIZES, 6: (2, 2), 7: (1, 1)}


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    return {
        level: rng.standard_normal((2, *hw, 4)).astype(np.float32) for level, hw in SIZES.items()
    }


def network_loss(network, fusion, features):
    """A feature network, variables for it, and the distance of its outputs from noise."""
    model = FeatureNetwork(network_graph(network, 3, 7), 1, 8, fusion=fusion)
    variables = random_variables(model, features)
    rng = np.random.default_rng(1)
    wanted = {
        level: rng.standard_normal((2, *hw, 8)).astype(np.float32) for level, hw in LEVELS.items()
    }

    def loss(params):
        out, _ = model.apply({**variables, "params": params}, features, True, mutable=True)
        assert sorted(out) == sorted(wanted)
        return sum(jnp.mean(jnp.square(out[level] - wanted[level])) for level in out)

    return variables["params"], loss


@pytest.mark.parametrize(("network", "fusion"), PAIRS)
def test_every_pair_has_a_gradient(network, fusion, features):
    params, loss = network_loss(network, fusion, features)
    value, gradient = jax.eval_shape(jax.value_and_grad(loss), params)
    assert value.shape == ()
    assert jax.tree.structure(gradient) == jax.tree.structure(params)


@pytest.mark.parametrize(("network", "fusion"), SOME_PAIRS)
def test_a_gradient_step_of_the_network(network, fusion, features):
    """All parameters get a finite gradient, nearly all one that is not zero, and it goes down."""
    params, loss = network_loss(network, fusion, features)
    compiled = jax.jit(jax.value_and_grad(loss)).lower(params).compile()
    before, gradient = compiled(params)
    flat = traverse_util.flatten_dict(gradient, sep="/")
    assert all(np.isfinite(value).all() for value in flat.values())
    # A bias before a batch norm has no effect.
    still = [
        name
        for name, value in flat.items()
        if np.abs(value).max() < 1e-9 and not name.endswith("/bias")
    ]
    assert len(still) <= 2, still
    size = sum(float(jnp.vdot(value, value)) for value in flat.values())
    step = 0.005 * float(before) / size
    after, _ = compiled(jax.tree.map(lambda p, g: np.asarray(p - step * g), params, gradient))
    assert after < before


@pytest.mark.slow
@pytest.mark.parametrize(("network", "fusion"), PAIRS)
def test_a_training_step_of_the_detector(network, fusion):
    model = create_model(
        "d0",
        num_classes=3,
        backbone="nano",
        width=8,
        network_repeats=1 if network == "retinanet_fpn" else 2,  # it leaves nodes of a first unread
        head_repeats=1,
        feature_network=network,
        fusion=fusion,
        image_hw=(256, 256),  # of a single position at level 7 a batch norm would leave nothing
    )
    variables = random_variables(model, jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32))
    new, metrics = train_once(model, variables, optax.sgd(1e-3, momentum=0.9))
    assert np.isfinite(metrics["loss"])
    assert metrics["gradient_norm"] > 0
    changed = jax.tree.map(
        lambda a, b: bool(np.any(a != b)),
        new.params["feature_network"],
        variables["params"]["feature_network"],
    )
    weights = [v for k, v in traverse_util.flatten_dict(changed).items() if k[-1] == "kernel"]
    assert all(weights)
