"""Names of effdet's state dicts, for every kind of its detectors that has an EfficientNet."""

import jax
import numpy as np
import pytest
from flax import traverse_util
from random_weights import random_variables

from bifpn_jax.models.backbones.efficientnet import Classifier
from bifpn_jax.models.detector import create_model
from bifpn_jax.weights.naming.effdet import SCHEME
from bifpn_jax.weights.naming.scheme import DETECTOR

PYTORCH = {"padding": "symmetric", "conv_bias": False, "backbone_batch_norm_epsilon": 1e-5}
QUAD = {**PYTORCH, "feature_network": "qufpn"}

# effdet's model -> our model and its settings, whether the batch norms of the heads are listed by
# level first, and entries of the state dict.
MODELS = {
    "tf_efficientdet_d0": ("d0", {}, False, 784),
    "tf_efficientdet_d0, pan_fa": ("d0", {"feature_network": "effdet_pan"}, False, 824),
    "tf_efficientdet_d0, pan_sum": (
        "d0",
        {"feature_network": "effdet_pan", "fusion": "sum"},
        False,
        794,
    ),
    "tf_efficientdet_d0, qufpn_fa": ("d0", {"feature_network": "qufpn"}, False, 1177),
    "tf_efficientdet_d0, qufpn_sum": (
        "d0",
        {"feature_network": "qufpn", "fusion": "sum"},
        False,
        1129,
    ),
    "tf_efficientdet_lite1": ("lite1", {}, False, 850),
    "efficientdet_d0": ("d0", PYTORCH, False, 748),
    "efficientdet_d3": ("d3", PYTORCH, False, 1208),
    "efficientdet_q0": ("d0", QUAD, True, 1096),
    "efficientdet_q1": ("d1", {**QUAD, "network_repeats": 3}, True, 1244),
    "efficientdet_w0": ("d0", {**PYTORCH, "width": 80, "expanded_features": True}, True, 748),
    "efficientdet_lite0": ("lite0", {"conv_bias": False, "fusion": "fast"}, True, 684),
}
LEVEL_FIRST = {f"{net}.bn_rep.0.0.weight" for net in ("class_net", "box_net")}


def shapes_of(model):
    """{path without collection: shape}."""
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    return {path[1:]: x.shape for path, x in traverse_util.flatten_dict(variables).items()}


@pytest.mark.parametrize("name", MODELS)
def test_every_variable_is_an_entry_of_its_own_and_every_entry_a_variable(name):
    known, settings, level_first, count = MODELS[name]
    model = create_model(known, **settings)
    names = LEVEL_FIRST if level_first else ()
    entries = [SCHEME.entries(path, model, names) for path in shapes_of(model)]
    assert {len(e) for e in entries} == {1}
    entries = [e for (e,) in entries]
    assert len(set(entries)) == len(entries)
    # Every batch norm has one more entry, a counter.
    norms = sum(e.endswith("running_var") for e in entries)
    assert len(entries) + norms == count
    assert SCHEME.recognises(entries)
    assert (set(entries) >= LEVEL_FIRST) == level_first


@pytest.fixture(scope="module")
def model():
    return create_model("d0")


BN = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
NAMES = {
    "backbone/stem_conv/kernel": "backbone.conv_stem.weight",
    "backbone/block_0/project_conv/kernel": "backbone.blocks.0.0.conv_pw.weight",
    "backbone/block_3/squeeze_excite/reduce/bias": "backbone.blocks.2.0.se.conv_reduce.bias",
    "backbone/block_15/project_conv/kernel": "backbone.blocks.6.0.conv_pwl.weight",
    "feature_network/level_6/conv/kernel": "fpn.resample.3.conv.conv.weight",
    "feature_network/level_6/conv/bias": "fpn.resample.3.conv.conv.bias",
    "feature_network/cell_2/node_4_fusion/weights": "fpn.cell.2.fnode.4.combine.edge_weights",
    # Edges are called by the id that they read.
    "feature_network/cell_0/node_4_edge_1/conv/kernel": (
        "fpn.cell.0.fnode.4.combine.resample.1.conv.conv.weight"
    ),
    "feature_network/cell_0/node_20_conv/depthwise/kernel": (
        "fpn.cell.0.fnode.20.after_combine.conv.conv_dw.weight"
    ),
    "feature_network/cell_1/node_7_conv/pointwise/bias": (
        "fpn.cell.1.fnode.7.after_combine.conv.conv_pw.bias"
    ),
    "class_head/conv_2/depthwise/kernel": "class_net.conv_rep.2.conv_dw.weight",
    "class_head/conv_2/pointwise/bias": "class_net.conv_rep.2.conv_pw.bias",
    "class_head/predictor/depthwise/kernel": "class_net.predict.conv_dw.weight",
    "box_head/predictor/pointwise/bias": "box_net.predict.conv_pw.bias",
    **{f"backbone/stem_bn/{ours}": f"backbone.bn1.{theirs}" for ours, theirs in BN.items()},
    **{
        f"feature_network/level_6/bn/{ours}": f"fpn.resample.3.conv.bn.{theirs}"
        for ours, theirs in BN.items()
    },
    **{
        f"feature_network/cell_1/node_7_bn/{ours}": (
            f"fpn.cell.1.fnode.7.after_combine.conv.bn.{theirs}"
        )
        for ours, theirs in BN.items()
    },
    **{
        f"box_head/bn_1_level_7/{ours}": f"box_net.bn_rep.1.4.bn.{theirs}"
        for ours, theirs in BN.items()
    },
}


@pytest.mark.parametrize("path", NAMES)
def test_names_are_effdets(model, path):
    assert SCHEME.entries(tuple(path.split("/")), model, ()) == (NAMES[path],)


@pytest.mark.parametrize("leaf", BN)
def test_the_heads_batch_norms_may_be_listed_by_level_first(model, leaf):
    path = ("class_head", "bn_1_level_7", leaf)
    (entry,) = SCHEME.entries(path, model, LEVEL_FIRST)
    assert entry == f"class_net.bn_rep.4.1.{BN[leaf]}"
    # Level first for one head says nothing of the other.
    (entry,) = SCHEME.entries(path, model, {"box_net.bn_rep.0.0.weight"})
    assert entry == f"class_net.bn_rep.1.4.bn.{BN[leaf]}"


def test_a_classifier_takes_the_backbone_only():
    classifier = Classifier("b0")
    path = ("backbone", "block_3", "depthwise_conv", "kernel")
    assert SCHEME.entries(path, classifier, ()) == ("backbone.blocks.2.0.conv_dw.weight",)
    assert SCHEME.entries(("classifier", "kernel"), classifier, ()) == ()


def test_parts_and_what_is_not_needed():
    assert SCHEME.parts == DETECTOR
    assert SCHEME.unused("class_net.bn_rep.0.0.bn.num_batches_tracked") == "counters of batches"
    assert SCHEME.unused("class_net.predict.conv_pw.bias") == ""
    assert SCHEME.unused("backbone.blocks.9.0.conv_pw.weight") == ""


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("conv_stem.weight", "bn1.weight", "blocks.0.0.conv_dw.weight"),
        ("backbone.conv1.weight", "fpn.cell.0.fnode.0.after_combine.conv.conv.weight"),
    ],
)
def test_other_files_are_not_recognised(names):
    assert not SCHEME.recognises(names)


@pytest.mark.parametrize("level_first", [False, True])
def test_round_trip(level_first):
    """Arrays under their names, in PyTorch's layout, and back."""
    tiny = {"backbone": "nano", "width": 8, "network_repeats": 1, "head_repeats": 2}
    model = create_model("d0", num_classes=3, feature_network="qufpn", **tiny)
    variables = random_variables(model, jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32))
    flat = {path[1:]: x for path, x in traverse_util.flatten_dict(variables).items()}
    file = {}
    for path, x in flat.items():
        (entry,) = SCHEME.entries(path, model, LEVEL_FIRST if level_first else ())
        file[entry] = x.transpose(3, 2, 0, 1).astype(np.float64) if x.ndim == 4 else x
    for path, x in flat.items():
        (entry,) = SCHEME.entries(path, model, set(file))
        back = SCHEME.convert([file[entry]], path)
        assert back.dtype == np.float32
        np.testing.assert_array_equal(back, x)
