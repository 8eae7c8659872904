"""Which of effdet's models are here under which settings; the comparison itself needs effdet."""

import importlib.util

import pytest

from bifpn_jax.errors import UserError
from bifpn_jax.models.cost import num_parameters
from bifpn_jax.models.initial_values import variable_shapes
from experiments.compare_effdet import DEFAULT, compare, our_model


@pytest.mark.parametrize("word", DEFAULT)
def test_the_models_of_the_default_are_here(word):
    name, _, network = word.partition(":")
    assert our_model(name, network, num_classes=3).num_classes == 3


# Trainable parameters of effdet's variants of D0 with 90 classes.
@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        ("pan_fa", 3_881_216),
        ("pan_sum", 3_881_162),
        ("qufpn_fa", 4_131_418),
        ("bifpn_sum", 3_880_010),
        ("bifpn_attn", 3_880_067),
    ],
)
def test_variants_of_d0_have_their_size(network, parameters):
    model = our_model("tf_efficientdet_d0", network)
    shapes = variable_shapes(model)
    assert num_parameters(shapes["params"]) == parameters


@pytest.mark.parametrize(
    ("name", "network", "message"),
    [
        ("resdet50", "", "resdet50 is not an effdet model that can be built here"),
        ("tf_efficientdet_d0", "bifpn", "bifpn is not a feature network of effdet: bifpn_sum"),
    ],
)
def test_names_that_there_are_not(name, network, message):
    with pytest.raises(UserError, match=message):
        our_model(name, network)


@pytest.mark.skipif(importlib.util.find_spec("effdet") is not None, reason="effdet is installed")
def test_without_effdet_the_extra_is_named():
    with pytest.raises(
        UserError, match=r'effdet is not installed .*: pip install -e "\.\[peers\]"'
    ):
        compare("tf_efficientdet_d0")
