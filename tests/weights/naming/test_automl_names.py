"""Every variable has TensorFlow names of its own, spelled as in the published checkpoints."""

import jax
import numpy as np
import pytest
from flax import traverse_util
from random_weights import random_variables

from bifpn_jax.models.backbones.efficientnet import Classifier
from bifpn_jax.models.detector import create_model
from bifpn_jax.weights.naming import automl, tf_imagenet

IMAGE = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)


def variable_paths(model):
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), IMAGE)
    return [path[1:] for path in traverse_util.flatten_dict(variables)]


def to_tensorflow(path, value):
    """The arrays that a TensorFlow checkpoint holds for one of our variables."""
    if path[-1] == "weights":
        return list(value)
    depthwise = path[-1] == "kernel" and "depthwise" in path[-2]
    return [np.moveaxis(value, -2, -1) if depthwise else value]


@pytest.mark.parametrize("name", ["d0", "d7x", "lite0"])
def test_every_variable_has_names_of_its_own(name):
    model = create_model(name)
    names = [entry for path in variable_paths(model) for entry in automl.entries(path, model, ())]
    assert len(set(names)) == len(names)
    assert automl.SCHEME.recognises(names)
    assert not tf_imagenet.SCHEME.recognises(names)
    assert not any(map(automl.unused, names))


@pytest.mark.parametrize("variant", ["b0", "lite0"])
def test_names_of_classifiers(variant):
    model = Classifier(variant)
    names = {entry for path in variable_paths(model) for entry in automl.entries(path, model, ())}
    assert len(names) == len(variable_paths(model))
    norm = f"efficientnet-{variant}/head/tpu_batch_normalization"
    assert {name for name in names if "/head/" in name} == {
        f"efficientnet-{variant}/head/conv2d/kernel",
        f"efficientnet-{variant}/head/dense/kernel",
        f"efficientnet-{variant}/head/dense/bias",
        *(f"{norm}/{leaf}" for leaf in ("gamma", "beta", "moving_mean", "moving_variance")),
    }
    assert tf_imagenet.SCHEME.recognises(names)
    assert not automl.SCHEME.recognises(names)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("backbone/stem_conv/kernel", "efficientnet-b0/stem/conv2d/kernel"),
        ("backbone/stem_bn/var", "efficientnet-b0/stem/tpu_batch_normalization/moving_variance"),
        # Without expansion: depthwise, project.
        (
            "backbone/block_0/depthwise_conv/kernel",
            "efficientnet-b0/blocks_0/depthwise_conv2d/depthwise_kernel",
        ),
        (
            "backbone/block_0/depthwise_bn/scale",
            "efficientnet-b0/blocks_0/tpu_batch_normalization/gamma",
        ),
        ("backbone/block_0/project_conv/kernel", "efficientnet-b0/blocks_0/conv2d/kernel"),
        (
            "backbone/block_0/project_bn/mean",
            "efficientnet-b0/blocks_0/tpu_batch_normalization_1/moving_mean",
        ),
        # With expansion: expand, depthwise, project.
        ("backbone/block_3/expand_conv/kernel", "efficientnet-b0/blocks_3/conv2d/kernel"),
        (
            "backbone/block_3/expand_bn/bias",
            "efficientnet-b0/blocks_3/tpu_batch_normalization/beta",
        ),
        (
            "backbone/block_3/depthwise_bn/bias",
            "efficientnet-b0/blocks_3/tpu_batch_normalization_1/beta",
        ),
        ("backbone/block_3/project_conv/kernel", "efficientnet-b0/blocks_3/conv2d_1/kernel"),
        (
            "backbone/block_3/project_bn/bias",
            "efficientnet-b0/blocks_3/tpu_batch_normalization_2/beta",
        ),
        (
            "backbone/block_3/squeeze_excite/reduce/bias",
            "efficientnet-b0/blocks_3/se/conv2d/bias",
        ),
        (
            "backbone/block_3/squeeze_excite/expand/kernel",
            "efficientnet-b0/blocks_3/se/conv2d_1/kernel",
        ),
        ("feature_network/level_6/conv/bias", "resample_p6/conv2d/bias"),
        ("feature_network/level_6/bn/mean", "resample_p6/bn/moving_mean"),
        (
            "feature_network/cell_0/node_1_edge_2/conv/kernel",
            "fpn_cells/cell_0/fnode1/resample_0_2_6/conv2d/kernel",
        ),
        (
            "feature_network/cell_0/node_2_edge_1/bn/scale",
            "fpn_cells/cell_0/fnode2/resample_0_1_7/bn/gamma",
        ),
        (
            "feature_network/cell_0/node_3_edge_0/conv/bias",
            "fpn_cells/cell_0/fnode3/resample_0_0_8/conv2d/bias",
        ),
        (
            "feature_network/cell_0/node_4_edge_1/conv/bias",
            "fpn_cells/cell_0/fnode4/resample_0_1_9/conv2d/bias",
        ),
        (
            "feature_network/cell_0/node_5_edge_2/conv/bias",
            "fpn_cells/cell_0/fnode5/resample_0_2_10/conv2d/bias",
        ),
        (
            "feature_network/cell_2/node_7_conv/depthwise/kernel",
            "fpn_cells/cell_2/fnode7/op_after_combine12/conv/depthwise_kernel",
        ),
        (
            "feature_network/cell_2/node_0_conv/pointwise/bias",
            "fpn_cells/cell_2/fnode0/op_after_combine5/conv/bias",
        ),
        (
            "feature_network/cell_1/node_6_bn/var",
            "fpn_cells/cell_1/fnode6/op_after_combine11/bn/moving_variance",
        ),
        ("class_head/conv_0/pointwise/kernel", "class_net/class-0/pointwise_kernel"),
        ("class_head/bn_1_level_4/mean", "class_net/class-1-bn-4/moving_mean"),
        ("box_head/conv_2/depthwise/kernel", "box_net/box-2/depthwise_kernel"),
        ("box_head/predictor/pointwise/bias", "box_net/box-predict/bias"),
    ],
)
def test_names_as_published(path, name):
    assert automl.entries(tuple(path.split("/")), create_model("d0"), ()) == [name]


def test_fusion_weights_are_scalars_in_the_order_of_the_inputs():
    path = ("feature_network", "cell_1", "node_5_fusion", "weights")
    scope = "fpn_cells/cell_1/fnode5/WSM"
    assert automl.entries(path, create_model("d0"), ()) == [scope, f"{scope}_1", f"{scope}_2"]
    scalars = [np.float32(0.5), np.array([0.25]), np.array(2.0)]
    stacked = automl.convert(scalars, path)
    assert stacked.dtype == np.float32
    np.testing.assert_array_equal(stacked, [0.5, 0.25, 2.0])


def test_numbers_of_features_start_behind_the_levels():
    model = create_model("d7x")
    path = ("feature_network", "cell_0", "node_2_edge_2", "conv", "kernel")
    names = automl.entries(path, model, ())
    assert names == ["fpn_cells/cell_0/fnode2/resample_0_2_8/conv2d/kernel"]


@pytest.mark.parametrize("fusion", ["fast", "sum", "channel_fast"])
def test_round_trip_of_a_detector(fusion):
    tiny = {"backbone": "nano", "width": 8, "network_repeats": 2, "head_repeats": 1}
    model = create_model("d0", num_classes=3, fusion=fusion, **tiny)
    check_round_trip(model)


@pytest.mark.parametrize("variant", ["nano", "lite0"])
def test_round_trip_of_a_classifier(variant):
    check_round_trip(Classifier(variant, num_classes=7))


def check_round_trip(model):
    flat = traverse_util.flatten_dict(random_variables(model, IMAGE))
    variables = {path[1:]: value for path, value in flat.items()}
    file = {}
    for path, value in variables.items():
        names = automl.entries(path, model, ())
        file |= zip(names, to_tensorflow(path, value), strict=True)
    for path, value in variables.items():
        arrays = [file.pop(name) for name in automl.entries(path, model, list(file))]
        np.testing.assert_array_equal(automl.convert(arrays, path), value)
    assert not file


def test_depthwise_kernels_are_turned():
    kernel = np.arange(2 * 3 * 5, dtype=np.float64).reshape(2, 3, 5, 1)
    converted = automl.convert([kernel], ("class_head", "conv_0", "depthwise", "kernel"))
    assert converted.shape == (2, 3, 1, 5)
    assert converted.dtype == np.float32
    np.testing.assert_array_equal(converted[1, 2, 0], kernel[1, 2, :, 0])


def test_arrays_of_wrong_shape_come_back_for_the_caller_to_see():
    kernel = np.zeros((3, 3))
    assert automl.convert([kernel], ("backbone", "stem_conv", "kernel")).shape == (3, 3)
    path = ("feature_network", "cell_0", "node_0_fusion", "weights")
    assert automl.convert([np.zeros(4), np.zeros(3)], path).shape == (7,)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("class_net/class-0/bias/Momentum", "optimizer state"),
        ("optimizer/_iterations", "optimizer state"),
        ("global_step", "counters of steps"),
        ("save_counter", "counters of steps"),
        ("efficientnet-b0/head/dense/kernel", "head of the ImageNet classifier"),
        ("class_net/class-9/bias", ""),
        ("fpn_cells/cell_0/fnode0/WSM_5", ""),
    ],
)
def test_what_is_not_needed_has_a_reason(name, reason):
    assert automl.unused(name) == reason
