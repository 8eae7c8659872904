"""The model that weights belong to is found from their names and shapes."""

import jax
import numpy as np
import pytest
from random_weights import state_dict_by_formula

from bifpn_jax.errors import UserError
from bifpn_jax.models.backbones.efficientnet import Classifier
from bifpn_jax.models.detector import create_model
from bifpn_jax.weights import load_weights
from bifpn_jax.weights.formats.opening import open_weights
from bifpn_jax.weights.identify import fitting_models
from bifpn_jax.weights.matching_names import variable_shapes
from bifpn_jax.weights.naming import effdet, timm


def empty_state_dict(model, scheme=effdet.SCHEME):
    """All names with arrays of the right shapes that take no memory."""
    entries = {}
    for path, shape in variable_shapes(model).items():
        (name,) = scheme.entries(path[1:], model, ())
        torch_shape = shape[::-1] if len(shape) == 2 else shape
        torch_shape = (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else torch_shape
        entries[name] = np.broadcast_to(np.float32(0), torch_shape)
    return entries


@pytest.mark.parametrize("name", ["d0", "d1", "lite0", "lite3x"])
def test_a_released_model_is_found_with_its_classes(name):
    file = open_weights(empty_state_dict(create_model(name, num_classes=7)))
    (found,) = fitting_models(file)
    assert (found.name, found.num_classes, dict(found.settings)) == (name, 7, {})
    assert str(found) == f"{name} with num_classes=7"


def test_models_with_the_same_weights_are_all_found():
    file = open_weights(empty_state_dict(create_model("d7")))
    assert [str(found) for found in fitting_models(file)] == ["d6", "d7"]


def test_weights_without_redundant_biases_were_trained_with_symmetric_padding():
    model = create_model("d0", conv_bias=False, padding="symmetric")
    (found,) = fitting_models(open_weights(empty_state_dict(model)))
    assert found.settings["padding"] == "symmetric"
    assert found.settings["conv_bias"] is False


def test_a_model_of_ones_own_is_not_mistaken_for_a_released_one():
    assert not fitting_models(open_weights(empty_state_dict(create_model("d0", width=72))))


def test_the_error_names_the_model_that_fits():
    state_dict = empty_state_dict(create_model("lite0"))
    with pytest.raises(UserError, match=r"the model that fits is lite0\.$"):
        load_weights(state_dict, create_model("lite1"))
    classifier = empty_state_dict(Classifier("b1"), timm.SCHEME)
    with pytest.raises(UserError, match=r"the model that fits is one with the backbone b1\.$"):
        load_weights(classifier, create_model("d0"))
    with pytest.raises(UserError, match="no released model fits: is the file whole"):
        load_weights(empty_state_dict(create_model("d0", width=72)), create_model("d0"))


def test_formula_weights_of_the_reference_models_are_identified(shared):
    import json

    for name in ("d0", "lite0"):
        text = (shared / "goldens" / f"tf_efficientdet_{name}.json").read_text()
        state_dict = state_dict_by_formula(json.loads(text)["state_dict"])
        (found,) = fitting_models(open_weights(state_dict))
        assert str(found) == name
    assert jax.tree.leaves(state_dict)
