"""Published weights: the forward pass agrees with effdet's, and no entry goes unaccounted for."""

import json

import jax
import numpy as np
import pytest
from flax import traverse_util
from random_weights import random_variables, state_dict_by_formula

from bifpn_jax.errors import UserError
from bifpn_jax.models.detector import create_model
from bifpn_jax.weights import effdet, load_weights
from bifpn_jax.weights.loading import variable_shapes


@pytest.fixture(scope="module", params=["d0", "d1", "lite0"])
def forward_pass(request, shared):
    """What the reference stored, and the same tensors of ours, by name."""
    name = f"tf_efficientdet_{request.param}"
    facts = json.loads((shared / "goldens" / f"{name}.json").read_text())
    with np.load(shared / "goldens" / f"{name}.npz") as file:
        reference = dict(file)
    model = create_model(request.param)
    state_dict = state_dict_by_formula(facts["state_dict"])
    variables, report = load_weights(state_dict, model, with_report=True)
    assert set(report.loaded) | set(report.ignored) == set(state_dict)
    h, w = facts["image_hw"]
    images = np.random.RandomState(7).standard_normal((1, h, w, 3)).astype(np.float32)
    apply = jax.jit(lambda v, x: model.apply(v, x, mutable=["intermediates"]))
    outputs, features = apply(variables, images)
    return reference, named_tensors(outputs, features["intermediates"])


def named_tensors(outputs, features):
    backbone, network = features["backbone_features"][0], features["network_features"][0]
    tensors = {f"backbone/C{level}": x for level, x in backbone.items()}
    start = 0
    for level, x in network.items():
        tensors[f"fpn/P{level}"] = x
        _, h, w, _ = x.shape
        rows = slice(start, start + 9 * h * w)
        tensors[f"class/P{level}"] = outputs.class_logits[:, rows].reshape(1, h, w, -1)
        tensors[f"box/P{level}"] = outputs.box_codes[:, rows].reshape(1, h, w, -1)
        start = rows.stop
    assert start == outputs.class_logits.shape[1] == outputs.box_codes.shape[1]
    return {name: np.asarray(x) for name, x in tensors.items()}


def test_forward_pass_agrees_with_effdet(forward_pass):
    reference, ours = forward_pass
    assert {name.rpartition("/")[0] for name in reference if name.endswith("/shape")} == set(ours)
    for name, tensor in ours.items():
        np.testing.assert_array_equal(tensor.shape, reference[f"{name}/shape"])
        at = np.arange(tensor.size)
        if tensor.size > 2048:
            at = np.random.RandomState(11).randint(0, tensor.size, 2048)
        mean, deviation = reference[f"{name}/moments"]
        close = {"rtol": 0, "atol": 1e-4 * deviation, "err_msg": name}
        np.testing.assert_allclose(tensor.ravel()[at], reference[name].ravel(), **close)
        np.testing.assert_allclose(tensor.mean(dtype=np.float64), mean, **close)
        np.testing.assert_allclose(tensor.std(dtype=np.float64), deviation, **close)


def test_every_variable_has_a_name_of_its_own():
    model = create_model("d7x")
    paths = list(variable_shapes(model))
    assert len({effdet.effdet_name(path[1:], model) for path in paths}) == len(paths)


def test_levels_are_counted_from_the_finest():
    model = create_model("d0", min_level=4)
    path = ("feature_network", "level_6", "conv", "kernel")
    assert effdet.effdet_name(path, model) == "fpn.resample.2.conv.conv.weight"
    path = ("class_head", "bn_1_level_4", "mean")
    assert effdet.effdet_name(path, model) == "class_net.bn_rep.1.0.bn.running_mean"


TINY = {"backbone": "nano", "width": 8, "network_repeats": 2, "head_repeats": 1, "num_classes": 3}


@pytest.fixture(scope="module")
def model():
    return create_model("d0", **TINY)


@pytest.fixture(scope="module")
def variables(model):
    return random_variables(model, jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32))


@pytest.fixture
def state_dict(model, variables):
    entries = {}
    for path, value in traverse_util.flatten_dict(variables).items():
        kernel = value.ndim == 4
        name = effdet.effdet_name(path[1:], model)
        entries[name] = value.transpose(3, 2, 0, 1) if kernel else value
        if path[-1] == "var":
            counter = name.replace("running_var", "num_batches_tracked")
            entries[counter] = np.zeros((), np.int64)
    return entries


def test_round_trip(model, variables, state_dict):
    loaded, report = load_weights(state_dict, model, with_report=True)
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)
    arrays = len(jax.tree.leaves(variables))
    norms = arrays - len(jax.tree.leaves(variables["params"]))
    assert len(report.loaded) == arrays
    assert len(report.ignored) == norms // 2
    assert str(report) == f"loaded {arrays} arrays; ignored {norms // 2} counters."


def test_any_float_type_is_loaded_as_float32(model, variables, state_dict):
    doubles = {name: value.astype(np.float64) for name, value in state_dict.items()}
    loaded = load_weights(doubles, model)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {np.dtype("float32")}
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)


def refused(state_dict, model):
    with pytest.raises(UserError) as error:
        load_weights(state_dict, model)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_missing_entries_are_named(model, state_dict):
    del state_dict["box_net.predict.conv_pw.bias"]
    assert "lacks box_net.predict.conv_pw.bias; create the model" in refused(state_dict, model)
    del state_dict["backbone.bn1.running_mean"]
    message = refused(state_dict, model)
    assert "lacks" in message
    assert "and 1 more" in message


def test_left_over_entries_are_named(model, state_dict):
    state_dict["fpn.cell.2.fnode.0.combine.edge_weights"] = np.ones(2, np.float32)
    assert "fpn.cell.2.fnode.0.combine.edge_weights" in refused(state_dict, model)


def test_a_counter_of_a_norm_that_does_not_exist_is_harmless(model, state_dict):
    state_dict["class_net.bn_rep.9.0.bn.num_batches_tracked"] = np.zeros(())
    load_weights(state_dict, model)


def test_misfits_are_named_with_both_shapes(model, state_dict):
    name = "class_net.predict.conv_pw.weight"
    state_dict[name] = np.zeros((90 * 9, 8, 1, 1), np.float32)
    message = refused(state_dict, model)
    assert f"{name} gives (1, 1, 8, 810), the model has (1, 1, 8, 27)" in message


@pytest.mark.parametrize("shape", [(27, 8), (27, 8, 1), (1, 1, 8, 27), ()])
def test_kernels_of_any_wrong_shape_are_refused(model, state_dict, shape):
    state_dict["class_net.predict.conv_pw.weight"] = np.zeros(shape, np.float32)
    assert "class_net.predict.conv_pw.weight gives" in refused(state_dict, model)


def test_weights_of_another_model_are_refused(state_dict):
    assert "create the model" in refused(state_dict, create_model("d0", **TINY, fusion="sum"))
    deeper = create_model("d0", **{**TINY, "network_repeats": 3})
    assert "lacks fpn.cell.2" in refused(state_dict, deeper)


def test_a_backbone_alone_is_not_a_detector(model, state_dict):
    backbone = {
        name.removeprefix("backbone."): value
        for name, value in state_dict.items()
        if name.startswith("backbone.")
    }
    assert "is not an effdet detector" in refused(backbone, model)
    assert "is not an effdet detector" in refused({}, model)
