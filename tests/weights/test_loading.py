"""Weights of every kind: the forward pass is effdet's, and every entry is accounted for."""

import json
from functools import partial

import jax
import numpy as np
import pytest
from flax import traverse_util
from random_weights import random_variables, state_dict_by_formula
from torch_files import write_pth

from bifpn_jax.errors import UserError
from bifpn_jax.models.backbones.efficientnet import Classifier, EfficientNet
from bifpn_jax.models.detector import create_model
from bifpn_jax.models.initial_values import init_variables
from bifpn_jax.weights import load_weights, save_weights
from bifpn_jax.weights.matching_names import variable_shapes
from bifpn_jax.weights.naming import automl, effdet, efficientnet_pytorch, own, tf_imagenet, timm


@pytest.fixture(scope="module", params=["d0", "d1", "lite0"])
def forward_pass(request, shared, tmp_path_factory):
    """What the reference stored, and the same tensors of ours by name, through a real .pth."""
    name = f"tf_efficientdet_{request.param}"
    facts = json.loads((shared / "goldens" / f"{name}.json").read_text())
    with np.load(shared / "goldens" / f"{name}.npz") as file:
        reference = dict(file)
    model = create_model(request.param)
    state_dict = state_dict_by_formula(facts["state_dict"])
    path = write_pth(tmp_path_factory.mktemp("pth") / f"{name}.pth", state_dict)
    variables, report = load(path, model)
    assert len(report.loaded) == len(state_dict)
    assert not report.unused
    assert not report.initial
    h, w = facts["image_hw"]
    images = np.random.RandomState(7).standard_normal((1, h, w, 3)).astype(np.float32)
    apply = jax.jit(lambda v, x: model.apply(v, x, mutable=["intermediates"]))
    outputs, features = apply(variables, images)
    return reference, named_tensors(outputs, features["intermediates"])


def load(source, model, **options):
    """Variables and report."""
    reports = []
    variables = load_weights(source, model, report=reports.append, **options)
    return variables, *reports


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


TINY = {"backbone": "nano", "width": 8, "network_repeats": 2, "head_repeats": 1, "num_classes": 3}


@pytest.fixture(scope="module")
def model():
    return create_model("d0", **TINY)


@pytest.fixture(scope="module")
def variables(model):
    return random_variables(model, jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32))


def entries_of(variables, model, scheme):
    """The variables as another code base would store them; the opposite of loading."""
    entries = {}
    for path, value in traverse_util.flatten_dict(variables).items():
        names = scheme.entries(path[1:], model, ())
        if len(names) > 1:
            entries |= {name: value[i] for i, name in enumerate(names)}
            continue
        torch = scheme not in (automl.SCHEME, tf_imagenet.SCHEME, own.SCHEME)
        if value.ndim == 4 and torch:
            value = value.transpose(3, 2, 0, 1)
        elif scheme is not own.SCHEME and value.ndim == 4 and path[-2].startswith("depthwise"):
            value = value.transpose(0, 1, 3, 2)
        elif value.ndim == 2 and torch:
            value = value.T
        entries[names[0]] = value
    return entries


@pytest.fixture
def state_dict(model, variables):
    entries = entries_of(variables, model, effdet.SCHEME)
    norms = [name for name in entries if name.endswith("running_var")]
    counters = {name.replace("running_var", "num_batches_tracked"): np.int64(0) for name in norms}
    return entries | counters


@pytest.mark.parametrize("scheme", [effdet.SCHEME, automl.SCHEME], ids=["effdet", "automl"])
def test_round_trip(model, variables, scheme):
    loaded, report = load(entries_of(variables, model, scheme), model)
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)
    assert jax.tree.structure(loaded) == jax.tree.structure(variables)
    assert len(report.loaded) == len(jax.tree.leaves(variables))
    assert not report.initial
    assert not report.unused


def test_a_file_of_our_own_comes_back_bit_for_bit(model, variables, tmp_path):
    save_weights(tmp_path / "mine.safetensors", variables, {"note": "hello"})
    loaded, report = load(tmp_path / "mine.safetensors", model)
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)
    assert report.label == "bifpn_jax model"


@pytest.mark.parametrize("scheme", [effdet.SCHEME, automl.SCHEME], ids=["effdet", "automl"])
def test_a_backbone_that_a_code_base_does_not_know(model, variables, scheme):
    other = model.clone(backbone=partial(EfficientNet, "nano"))
    entries = entries_of(variables, model, scheme)
    with pytest.raises(UserError, match=r"lacks anything for backbone/block_0/\S+ and \d+ more"):
        load(entries, other)
    heads = "feature_network|class_head|box_head"
    loaded, report = load(entries, other, only=heads)
    assert {name.split("/")[0] for name in report.loaded} == set(heads.split("|"))
    jax.tree.map(
        np.testing.assert_array_equal, loaded["params"]["box_head"], variables["params"]["box_head"]
    )


def test_any_float_type_is_loaded_as_float32(model, variables, state_dict):
    doubles = {name: np.asarray(value, np.float64) for name, value in state_dict.items()}
    loaded = load_weights(doubles, model, report=None)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {np.dtype("float32")}
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)


def test_with_other_classes_only_the_class_predictor_is_new(state_dict):
    other = create_model("d0", **{**TINY, "num_classes": 5})
    loaded, report = load(state_dict, other, new_classes=True)
    reason = "another number of classes: 3 in the file, 5 in the model"
    new = {f"class_head/predictor/pointwise/{leaf}": reason for leaf in ("kernel", "bias")}
    assert report.initial == new
    assert report.unused["class_net.predict.conv_pw.bias"] == reason
    fresh = traverse_util.flatten_dict(init_variables(other, 0), sep="/")
    for name, value in traverse_util.flatten_dict(loaded["params"], sep="/").items():
        if name.endswith("predictor/pointwise/kernel") and name in new:
            assert value.shape == fresh[f"params/{name}"].shape
            assert not value.any()
        elif name in new:
            np.testing.assert_array_equal(value, fresh[f"params/{name}"], err_msg=name)
        else:
            assert name in report.loaded
    # Says what it did, a line for every reason.
    lines = str(report).splitlines()
    assert lines[0].startswith("weights: the state dict (effdet detector): ")
    assert any("new in the model: class_head/predictor" in x and reason in x for x in lines)
    assert any("unused: " in x and x.endswith("counters of batches") for x in lines)


def test_with_other_anchors_both_predictors_are_new(state_dict):
    other = create_model("d0", **TINY, num_scales=2)
    _, report = load(state_dict, other, new_anchors=True)
    assert set(report.initial.values()) == {
        "another number of anchors: 9 in the file, 6 in the model"
    }
    assert {name.split("/")[0] for name in report.initial} == {"class_head", "box_head"}


@pytest.mark.parametrize(
    ("changes", "allowed", "message"),
    [
        ({"num_classes": 5}, "new_classes", "has 3 classes and the model 5: make the model with"),
        ({"num_scales": 2}, "new_anchors", "has 9 anchors and the model 6: make the model with"),
    ],
)
def test_new_predictors_must_be_asked_for(state_dict, changes, allowed, message):
    other = create_model("d0", **{**TINY, **changes})
    assert message in refused(state_dict, other)
    assert f"pass {allowed}=True" in refused(state_dict, other)
    # Asking for the one does not allow the other, and a part that is not taken asks nothing.
    wrong = {"new_classes", "new_anchors"} - {allowed}
    with pytest.raises(UserError, match=message):
        load_weights(state_dict, other, report=None, **dict.fromkeys(wrong, True))
    load_weights(state_dict, other, report=None, only="backbone")


def test_a_classifier_with_other_classes(model):
    classifier = Classifier("nano", num_classes=7)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    entries = entries_of(random_variables(classifier, image), classifier, timm.SCHEME)
    other = Classifier("nano", num_classes=5)
    assert "has 7 classes and the model 5" in refused(entries, other)
    _, report = load(entries, other, new_classes=True)
    assert set(report.initial) == {"classifier/kernel", "classifier/bias"}


NAMES = ("ant", "bee", "cow")


@pytest.mark.parametrize("names", [("bee", "ant", "cow"), ("ant", "bee", "dog")])
def test_as_many_classes_but_others(model, variables, tmp_path, names):
    label_map = json.dumps({"category_ids": [1, 2, 3], "names": NAMES})
    metadata = {"config": json.dumps({"model": {}}), "label_map": label_map}
    save_weights(tmp_path / "mine.safetensors", variables, metadata)
    path = tmp_path / "mine.safetensors"
    same, _ = load(path, model, class_names=NAMES)
    jax.tree.map(np.testing.assert_array_equal, same, variables)
    with pytest.raises(UserError, match="has other classes than the model: take load_detector"):
        load_weights(path, model, class_names=names)
    loaded, report = load(path, model, class_names=names, new_classes=True)
    assert set(report.initial) == {
        f"class_head/predictor/pointwise/{leaf}" for leaf in ("kernel", "bias")
    }
    assert "other classes: ant, bee, cow … in the file" in str(report)
    assert not loaded["params"]["class_head"]["predictor"]["pointwise"]["kernel"].any()


def test_a_part_alone_can_be_loaded(model, variables, state_dict):
    loaded, report = load(state_dict, model, only="backbone")
    assert all(name.startswith("backbone/") for name in report.loaded)
    assert set(report.initial.values()) == {"skipped, as requested"}
    jax.tree.map(
        np.testing.assert_array_equal,
        loaded["params"]["backbone"],
        variables["params"]["backbone"],
    )
    with pytest.raises(UserError, match=r"only='spine' matches no variable; .* backbone, "):
        load_weights(state_dict, model, only="spine")
    with pytest.raises(UserError, match=r"only='\(' is not a regular expression"):
        load_weights(state_dict, model, only="(")


@pytest.mark.parametrize(
    "scheme", [effdet.SCHEME, automl.SCHEME, own.SCHEME], ids=["effdet", "automl", "own"]
)
def test_a_part_can_be_taken_from_another_model(model, scheme):
    """Its other parts may be larger than the model's; one that is taken may not."""
    larger = create_model("d0", **TINY | {"head_repeats": 2, "network_repeats": 3, "width": 16})
    variables = random_variables(larger, jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32))
    names = entries_of(variables, larger, scheme)
    loaded, report = load(names, model, only="backbone")
    jax.tree.map(
        np.testing.assert_array_equal,
        loaded["params"]["backbone"],
        variables["params"]["backbone"],
    )
    assert set(report.unused.values()) == {"skipped, as requested"}
    with pytest.raises(UserError, match="has entries that the model lacks: ") as raised:
        load(names, model, only="backbone|box_head/conv_0/depthwise")
    assert "box" in str(raised.value).split("lacks: ")[1]


IMAGENET = [timm.SCHEME, efficientnet_pytorch.SCHEME, tf_imagenet.SCHEME]


@pytest.mark.parametrize("scheme", IMAGENET, ids=["timm", "lukemelas", "tensorflow"])
def test_an_imagenet_classifier_fills_the_backbone(model, scheme):
    classifier = Classifier("nano", num_classes=7)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    source = random_variables(classifier, image)
    loaded, report = load(entries_of(source, classifier, scheme), model)
    jax.tree.map(
        np.testing.assert_array_equal, loaded["params"]["backbone"], source["params"]["backbone"]
    )
    assert set(report.initial.values()) == {"the file has the backbone only"}
    assert set(report.unused.values()) == {"head of the ImageNet classifier"}
    assert len(report.unused) == 7
    whole, report = load(entries_of(source, classifier, scheme), classifier)
    jax.tree.map(np.testing.assert_array_equal, whole, source)


def refused(source, model):
    with pytest.raises(UserError) as error:
        load_weights(source, model)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_missing_entries_are_named(model, state_dict):
    del state_dict["box_net.predict.conv_pw.weight"]
    assert "the state dict lacks box_net.predict.conv_pw.weight;" in refused(state_dict, model)
    del state_dict["backbone.bn1.running_mean"]
    message = refused(state_dict, model)
    assert "lacks" in message
    assert "and 1 more" in message


def test_left_over_entries_are_named(model, state_dict):
    state_dict["fpn.cell.2.fnode.0.combine.edge_weights"] = np.ones(2, np.float32)
    assert "fpn.cell.2.fnode.0.combine.edge_weights" in refused(state_dict, model)


def test_a_counter_of_a_norm_that_does_not_exist_is_harmless(model, state_dict):
    state_dict["class_net.bn_rep.9.0.bn.num_batches_tracked"] = np.zeros(())
    load_weights(state_dict, model, report=None)


def test_misfits_are_named_with_both_shapes(model, state_dict):
    name = "class_net.predict.conv_pw.weight"
    state_dict[name] = np.zeros((90 * 9, 8, 1, 1), np.float32)
    message = refused(state_dict, model)
    assert f"{name} gives (1, 1, 8, 810), the model has (1, 1, 8, 27)" in message


@pytest.mark.parametrize("shape", [(27, 8), (27, 8, 1), (1, 1, 8, 27), ()])
def test_kernels_of_any_wrong_shape_are_refused(model, state_dict, shape):
    state_dict["class_net.predict.conv_pw.weight"] = np.zeros(shape, np.float32)
    assert "class_net.predict.conv_pw.weight gives" in refused(state_dict, model)


def test_entries_of_no_known_code_base_are_refused(model):
    assert "of an unknown kind (the first: a.b)" in refused({"a.b": np.zeros(3)}, model)
    assert "of an unknown kind (the first: none)" in refused({}, model)


def test_differences_of_the_settings_are_said(tmp_path, model, variables):
    from bifpn_jax.weights.formats.opening import open_weights

    save_weights(tmp_path / "x.safetensors", variables)
    trained_with = {"aspect_ratios": (1.0, 2.0, 0.5), "padding": "same"}
    file = open_weights(tmp_path / "x.safetensors")._replace(settings=trained_with)
    _, report = load(file, model)
    assert report.differences == {"aspect_ratios": ((1.0, 2.0, 0.5), model.aspect_ratios)}
    assert "they were trained with aspect_ratios=(1.0, 2.0, 0.5), the model has" in str(report)


def test_every_variable_has_a_name_of_its_own():
    model = create_model("d7x")
    paths = list(variable_shapes(model))
    for scheme in (effdet.SCHEME, automl.SCHEME):
        names = [name for path in paths for name in scheme.entries(path[1:], model, ())]
        assert len(set(names)) == len(names) >= len(paths)
