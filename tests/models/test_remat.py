"""Recomputing parts of the network in the backward pass: the same numbers, less kept."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_weights import random_variables

from bifpn_jax.errors import UserError
from bifpn_jax.models.detector import create_model
from bifpn_jax.models.feature_network import FeatureNetwork
from bifpn_jax.models.model_checks import PARTS
from bifpn_jax.models.networks import network_graph

SMALL = {
    "backbone": "nano",
    "width": 64,
    "network_repeats": 1,
    "head_repeats": 1,
    "max_level": 5,
}
EVERYTHING = ",".join(PARTS)


def make_loss(remat):
    model = create_model("d0", num_classes=2, **SMALL, remat=remat, survival_prob=0.8)
    images = np.random.default_rng(0).standard_normal((2, 64, 64, 3)).astype(np.float32)
    variables = random_variables(model, jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32))

    def loss(params):
        rngs = {"stochastic_depth": jax.random.key(1)}
        filled = {**variables, "params": params}
        outputs, updates = model.apply(filled, images, True, mutable=["batch_stats"], rngs=rngs)
        return sum(jnp.mean(jnp.square(x)) for x in outputs), updates

    return variables, loss


def kept_bytes(remat):
    """What the forward pass leaves for the backward pass."""
    variables, loss = make_loss(remat)
    kept = jax.eval_shape(lambda p: jax.vjp(loss, p, has_aux=True)[1], variables["params"])
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))


def assert_nearly_equal(plain, recomputed):
    assert jax.tree.structure(plain) == jax.tree.structure(recomputed)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(recomputed), strict=True):
        # The bias before a batch norm has no gradient but rounding.
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5 * np.abs(a).max() + 5e-7)


def test_a_feature_network_has_the_same_gradients():
    rng = np.random.default_rng(0)
    features = {
        level: rng.standard_normal((2, side, side, 4)).astype(np.float32)
        for level, side in ((3, 4), (4, 2))
    }
    found = []
    for remat in (False, True):
        network = FeatureNetwork(network_graph("fpn", 3, 4), 2, 8, max_level=4, remat=remat)
        variables = random_variables(network, features)

        def loss(params, network=network, variables=variables):
            filled = {**variables, "params": params}
            out, updates = network.apply(filled, features, True, mutable=["batch_stats"])
            return sum(jnp.mean(jnp.square(x)) for x in out.values()), updates

        run = jax.jit(jax.value_and_grad(loss, has_aux=True))
        found.append((variables, run(variables["params"])))
    assert_nearly_equal(*found)


@pytest.mark.slow
def test_the_same_variables_loss_statistics_and_gradients():
    found = {}
    for remat in ("", EVERYTHING):
        variables, loss = make_loss(remat)
        run = jax.jit(jax.value_and_grad(loss, has_aux=True))
        found[remat] = variables, *run(variables["params"])
    assert_nearly_equal(*found.values())


@pytest.mark.parametrize("part", PARTS)
def test_every_part_keeps_less(part):
    assert kept_bytes(part) < 0.98 * kept_bytes("")


def test_all_parts_together_keep_less_than_half():
    assert kept_bytes(EVERYTHING) < 0.5 * kept_bytes("")


def test_a_part_that_there_is_not():
    with pytest.raises(UserError, match="unknown part in remat 'head': did you mean 'heads'"):
        create_model("d0", remat="backbone,head")
