"""Names of ImageNet EfficientNets in timm and efficientnet_pytorch: one entry for each variable."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from bifpn_jax.models.backbones.efficientnet import Classifier
from bifpn_jax.models.detector import create_model
from bifpn_jax.weights.naming import effdet, efficientnet_pytorch, timm

# Entries and numbers in timm's state dicts of tf_efficientnet_*, without the counters.
SIZES = {
    "b0": (311, 5_330_564),
    "b1": (439, 7_856_232),
    "b2": (439, 9_177_562),
    "b3": (496, 12_320_528),
    "b4": (610, 19_466_816),
    "b5": (738, 30_562_520),
    "b6": (852, 43_265_136),
    "b7": (1037, 66_658_680),
    "lite0": (247, 4_694_024),
    "lite1": (322, 5_470_344),
    "lite2": (322, 6_150_168),
    "lite3": (367, 8_273_768),
    "lite4": (457, 13_118_936),
}
QUICK = ("b0", "b7", "lite0", "lite4")


def shapes_of(model):
    """{path without collection: shape} of a model's variables."""
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    return {path[1:]: leaf.shape for path, leaf in traverse_util.flatten_dict(variables).items()}


@pytest.fixture(
    scope="module",
    params=[pytest.param(v, marks=() if v in QUICK else pytest.mark.slow) for v in SIZES],
)
def classifier(request):
    """Variant, model and shapes of its variables."""
    model = Classifier(request.param)
    return request.param, model, shapes_of(model)


@pytest.mark.parametrize(
    "scheme", [timm.SCHEME, efficientnet_pytorch.SCHEME], ids=lambda s: s.label
)
def test_every_variable_of_a_classifier_is_one_entry_of_its_own(classifier, scheme):
    variant, model, shapes = classifier
    names = [name for path in shapes for name in scheme.entries(path, model, ())]
    assert len(names) == len(set(names)) == SIZES[variant][0]
    assert sum(map(np.prod, shapes.values())) == SIZES[variant][1]
    assert scheme.recognises(names)
    assert not any(
        other.recognises(names)
        for other in (timm.SCHEME, efficientnet_pytorch.SCHEME)
        if other is not scheme
    )


# Names and shapes as they are in the published files of B0.
B0 = {
    ("backbone", "stem_conv", "kernel"): ("conv_stem.weight", "_conv_stem.weight", (32, 3, 3, 3)),
    ("backbone", "stem_bn", "var"): ("bn1.running_var", "_bn0.running_var", (32,)),
    ("backbone", "block_0", "depthwise_conv", "kernel"): (
        "blocks.0.0.conv_dw.weight",
        "_blocks.0._depthwise_conv.weight",
        (32, 1, 3, 3),
    ),
    ("backbone", "block_0", "depthwise_bn", "scale"): (
        "blocks.0.0.bn1.weight",
        "_blocks.0._bn1.weight",
        (32,),
    ),
    ("backbone", "block_0", "project_conv", "kernel"): (
        "blocks.0.0.conv_pw.weight",
        "_blocks.0._project_conv.weight",
        (16, 32, 1, 1),
    ),
    ("backbone", "block_0", "project_bn", "bias"): (
        "blocks.0.0.bn2.bias",
        "_blocks.0._bn2.bias",
        (16,),
    ),
    ("backbone", "block_4", "expand_conv", "kernel"): (
        "blocks.2.1.conv_pw.weight",
        "_blocks.4._expand_conv.weight",
        (240, 40, 1, 1),
    ),
    ("backbone", "block_4", "expand_bn", "mean"): (
        "blocks.2.1.bn1.running_mean",
        "_blocks.4._bn0.running_mean",
        (240,),
    ),
    ("backbone", "block_4", "squeeze_excite", "reduce", "kernel"): (
        "blocks.2.1.se.conv_reduce.weight",
        "_blocks.4._se_reduce.weight",
        (10, 240, 1, 1),
    ),
    ("backbone", "block_4", "squeeze_excite", "expand", "bias"): (
        "blocks.2.1.se.conv_expand.bias",
        "_blocks.4._se_expand.bias",
        (240,),
    ),
    ("backbone", "block_15", "project_conv", "kernel"): (
        "blocks.6.0.conv_pwl.weight",
        "_blocks.15._project_conv.weight",
        (320, 1152, 1, 1),
    ),
    ("backbone", "block_15", "project_bn", "var"): (
        "blocks.6.0.bn3.running_var",
        "_blocks.15._bn2.running_var",
        (320,),
    ),
    ("head_conv", "kernel"): ("conv_head.weight", "_conv_head.weight", (1280, 320, 1, 1)),
    ("head_bn", "mean"): ("bn2.running_mean", "_bn1.running_mean", (1280,)),
    ("classifier", "kernel"): ("classifier.weight", "_fc.weight", (1000, 1280)),
    ("classifier", "bias"): ("classifier.bias", "_fc.bias", (1000,)),
}


@pytest.fixture(scope="module")
def b0_shapes():
    return shapes_of(Classifier("b0"))


@pytest.mark.parametrize("path", B0, ids="/".join)
def test_names_and_layouts_of_the_published_files(b0_shapes, path):
    in_timm, in_package, shape = B0[path]
    model = Classifier("b0")
    entry = np.random.default_rng(0).standard_normal(shape)
    for scheme, name in ((timm.SCHEME, in_timm), (efficientnet_pytorch.SCHEME, in_package)):
        assert scheme.entries(path, model, ()) == (name,)
        value = scheme.convert([entry], path)
        assert value.shape == b0_shapes[path]
        assert value.dtype == np.float32
        if value.ndim == 2:
            assert value[3, 5] == np.float32(entry[5, 3])
        elif value.ndim == 4:
            assert value[-1, 0, 0, 5] == np.float32(entry[5, 0, -1, 0])


@pytest.mark.parametrize(
    "scheme", [timm.SCHEME, efficientnet_pytorch.SCHEME], ids=lambda s: s.label
)
def test_a_detector_takes_its_backbone_and_nothing_else(scheme):
    detector, model = create_model("d0"), Classifier("b0")
    for path in B0:
        if path[0] == "backbone":
            (name,) = scheme.entries(path, detector, ())
            assert scheme.entries(path, model, ()) == (name,)
            assert not scheme.unused(name)
        else:
            assert {scheme.unused(name) for name in scheme.entries(path, model, ())} == {
                "head of the ImageNet classifier"
            }
    for path in (
        ("feature_network", "cell_0", "node_2_edge_1", "conv", "kernel"),
        ("class_head", "predictor", "pointwise", "bias"),
        ("box_head", "bn_1_level_4", "mean"),
    ):
        assert scheme.entries(path, detector, ()) == ()


def test_only_counters_and_the_head_may_be_left_over():
    for scheme in (timm.SCHEME, efficientnet_pytorch.SCHEME):
        assert scheme.unused("x.bn1.num_batches_tracked") == "counters of batches"
        assert scheme.unused("something.weight") == ""
        assert not scheme.recognises(["backbone.conv_stem.weight", "backbone.bn1.weight"])


def test_effdet_calls_the_backbone_as_timm_does():
    detector = create_model("d0")
    for path, (name, _, _) in B0.items():
        if path[0] == "backbone":
            assert effdet.entries(path, detector) == (f"backbone.{name}",)
