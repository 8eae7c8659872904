from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from random_weights import random_variables

from bifpn_jax.models.feature_network import Cell, FeatureNetwork, Resample
from bifpn_jax.models.fusion import Fusion
from bifpn_jax.models.graphs import Node
from bifpn_jax.models.layers import BatchNorm, SeparableConv
from bifpn_jax.models.networks import bifpn, fpn, nas_fpn, qufpn, retinanet_fpn

CHANNELS = {3: 40, 4: 112, 5: 320}  # of B0


def make_cell(graph, width, fusion, activation):
    """A cell with plain settings."""
    return Cell(
        graph,
        width,
        fusion,
        activation,
        resample=partial(Resample, width),
        conv=partial(SeparableConv, width),
        norm=BatchNorm,
    )


def feature_shapes(hw, channels=CHANNELS, batch=1, dtype=np.float32):
    return {
        level: jax.ShapeDtypeStruct((batch, *(-(-s // 2**level) for s in hw), c), dtype)
        for level, c in channels.items()
    }


def draw(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(s.dtype), shapes)


def init_shapes(model, features):
    return jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x), features)


def num_parameters(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("levels", [(3, 7), (3, 8), (4, 6), (5, 7), (3, 5)])
@pytest.mark.parametrize("hw", [(97, 131), (64, 512), (1, 7)])
def test_outputs_have_the_size_of_their_level(levels, hw):
    model = FeatureNetwork(bifpn(*levels), 2, 16, max_level=levels[1])
    channels = {level: c for level, c in CHANNELS.items() if level >= levels[0]}
    out, _ = init_shapes(model, feature_shapes(hw, channels, batch=2))
    expected = feature_shapes(hw, dict.fromkeys(range(levels[0], levels[1] + 1), 16), batch=2)
    assert {level: x.shape for level, x in out.items()} == {
        level: x.shape for level, x in expected.items()
    }


def test_every_edge_from_the_backbone_has_its_own_projection():
    """P3 has one, P4 and P5 two each, and one more makes P6; later cells have none."""
    model = FeatureNetwork(bifpn(3, 7), 2, 64)
    _, variables = init_shapes(model, feature_shapes((128, 128)))
    kernels = {
        "/".join(path[:-2]): value.shape
        for path, value in traverse_util.flatten_dict(variables["params"]).items()
        if path[-2:] == ("conv", "kernel")
    }
    assert kernels == {
        "level_6": (1, 1, 320, 64),
        "cell_0/node_1_edge_2": (1, 1, 320, 64),
        "cell_0/node_2_edge_1": (1, 1, 112, 64),
        "cell_0/node_3_edge_0": (1, 1, 40, 64),
        "cell_0/node_4_edge_1": (1, 1, 112, 64),
        "cell_0/node_5_edge_2": (1, 1, 320, 64),
    }


def test_no_projection_where_the_width_is_right():
    _, variables = init_shapes(
        FeatureNetwork(bifpn(3, 7), 1, 64), feature_shapes((128, 128), {3: 64, 4: 64, 5: 64})
    )
    paths = traverse_util.flatten_dict(variables["params"])
    assert not [path for path in paths if "edge" in path[1] or path[0].startswith("level")]


@pytest.mark.parametrize(
    ("name", "width", "repeats", "channels", "max_level", "fusion", "sixth", "network"),
    [
        ("d0", 64, 3, (40, 112, 320), 7, "fast", 20_672, 175_609),
        ("d5", 288, 7, (64, 176, 512), 7, "fast", 148_320, 5_257_573),
        ("d6", 384, 8, (72, 200, 576), 7, "sum", 222_336, 10_361_472),
        ("d7x", 384, 8, (80, 224, 640), 8, "sum", 246_912, 12_865_152),
        ("lite3x", 200, 6, (48, 136, 384), 7, "sum", 77_400, 2_255_800),
    ],
)
def test_number_of_parameters(name, width, repeats, channels, max_level, fusion, sixth, network):
    model = FeatureNetwork(bifpn(3, max_level), repeats, width, max_level, fusion)
    features = feature_shapes((256, 256), dict(zip((3, 4, 5), channels, strict=True)))
    params = init_shapes(model, features)[1]["params"]
    assert num_parameters(params.pop("level_6")) == sixth, name
    assert num_parameters(params) == network, name


def norm(x, params, stats):
    return (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-3) * params["scale"] + params["bias"]


def test_resampling_projects_and_normalises_before_it_pools():
    x = draw(jax.ShapeDtypeStruct((2, 5, 8, 3), np.float32))
    model = Resample(4)
    variables = random_variables(model, x, hw=(3, 4), train=False)
    # A negative scale turns the maximum of the pool into a minimum, so the order shows.
    variables["params"]["bn"]["scale"][:2] *= -1
    params = variables["params"]
    with jax.numpy_rank_promotion("allow"):
        y = x @ params["conv"]["kernel"][0, 0] + params["conv"]["bias"]
        y = norm(y, params["bn"], variables["batch_stats"]["bn"])
    padded = np.pad(y, [(0, 0), (1, 1), (0, 1), (0, 0)], constant_values=-np.inf)
    expected = np.max(
        [padded[:, i : i + 5 : 2, j : j + 7 : 2] for i in range(3) for j in range(3)], 0
    )
    out = model.apply(variables, x, (3, 4), False)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_symmetric_padding_moves_the_windows_of_the_pool():
    x = draw(jax.ShapeDtypeStruct((1, 6, 7, 4), np.float32))
    out = Resample(4, padding="symmetric").apply({}, x, (3, 4), False)
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-np.inf)
    windows = [padded[:, i : i + 6 : 2, j : j + 7 : 2] for i in range(3) for j in range(3)]
    np.testing.assert_array_equal(out, np.max(windows, 0))
    assert np.any(out != Resample(4).apply({}, x, (3, 4), False))


def test_bilinear_resampling():
    x = draw(jax.ShapeDtypeStruct((1, 4, 6, 4), np.float32))
    up = Resample(4, upsampling="bilinear").apply({}, x, (8, 12), False)
    np.testing.assert_allclose(up[:, 0, 0], x[:, 0, 0], rtol=1e-6)
    between = (9 * x[:, 1, 1] + 3 * x[:, 1, 2] + 3 * x[:, 2, 1] + x[:, 2, 2]) / 16
    np.testing.assert_allclose(up[:, 3, 3], between, rtol=1e-5, atol=1e-6)
    down = Resample(4, downsampling="bilinear").apply({}, x, (2, 3), False)
    means = x.reshape(1, 2, 2, 3, 2, 4).mean((2, 4))
    np.testing.assert_allclose(down, means, rtol=1e-5, atol=1e-6)
    # One of the two settings does not touch the other way.
    for model, target in (
        (Resample(4, upsampling="bilinear"), (2, 3)),
        (Resample(4, downsampling="bilinear"), (8, 12)),
    ):
        plain = Resample(4).apply({}, x, target, False)
        np.testing.assert_array_equal(model.apply({}, x, target, False), plain)


def test_the_settings_reach_every_resampling():
    features = feature_shapes((128, 96))
    settings = {
        "padding": "symmetric",
        "conv_bias": False,
        "upsampling": "bilinear",
        "downsampling": "bilinear",
    }
    found = []

    def watch(next_fun, args, kwargs, context):
        if isinstance(context.module, Resample):
            found.append({key: getattr(context.module, key) for key in settings})
        return next_fun(*args, **kwargs)

    with nn.intercept_methods(watch):
        init_shapes(FeatureNetwork(bifpn(3, 7), 2, 64, **settings), features)
    assert found == [settings] * (2 + 2 * 19)


def test_without_biases_only_the_batch_norms_have_one():
    model = FeatureNetwork(bifpn(3, 7), 2, 64, conv_bias=False)
    params = init_shapes(model, feature_shapes((128, 128)))[1]["params"]
    biases = [path for path in traverse_util.flatten_dict(params) if path[-1] == "bias"]
    assert len(biases) == 6 + 2 * 8
    assert all("bn" in path[-2] for path in biases)


@pytest.mark.parametrize(("fusion", "own"), [("sum", "fast"), ("softmax", "fast")])
def test_a_node_may_have_a_fusion_of_its_own(fusion, own):
    methods = {}

    def watch(next_fun, args, kwargs, context):
        if isinstance(context.module, Fusion):
            methods[int(context.module.name.split("_")[1])] = context.module.method
        return next_fun(*args, **kwargs)

    with nn.intercept_methods(watch):
        init_shapes(FeatureNetwork(qufpn(3, 7), 1, 64, fusion=fusion), feature_shapes((128, 128)))
    assert methods == {n: fusion if n < 16 else own for n in range(21)}


@pytest.mark.parametrize(
    ("hw", "target"), [((3, 4), (5, 7)), ((1, 1), (1, 2)), ((4, 6), (4, 6)), ((9, 12), (3, 3))]
)
def test_resampling_reaches_any_size(hw, target):
    x = draw(jax.ShapeDtypeStruct((1, *hw, 4), np.float32))
    out = Resample(4).apply({}, x, target, False)
    assert out.shape == (1, *target, 4)
    assert set(np.ravel(out)) <= set(np.ravel(x))


def test_a_node_fuses_activates_convolves_and_normalises():
    """No activation behind the batch norm, and none inside the convolution."""
    features = draw(feature_shapes((48, 32), {3: 6, 4: 6}, batch=2))
    model = make_cell((Node(3, (0, 1)),), 6, "sum", nn.relu6)
    variables = random_variables(model, features, train=False)
    params, stats = variables["params"], variables["batch_stats"]

    x = features[3] + features[4].repeat(2, axis=1).repeat(2, axis=2)
    x = np.clip(x, 0, 6)
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    h, w = x.shape[1:3]
    kernel = params["node_0_conv"]["depthwise"]["kernel"]
    with jax.numpy_rank_promotion("allow"):
        x = sum(padded[:, i : i + h, j : j + w] * kernel[i, j] for i in range(3) for j in range(3))
        pointwise = params["node_0_conv"]["pointwise"]
        x = x @ pointwise["kernel"][0, 0] + pointwise["bias"]
        x = norm(x, params["node_0_bn"], stats["node_0_bn"])
    out = model.apply(variables, features, False)
    np.testing.assert_allclose(out[3], x, rtol=1e-4, atol=1e-5)
    # A level without a node passes through.
    np.testing.assert_array_equal(out[4], features[4])


def test_kernels_start_glorot_uniform_and_biases_at_zero():
    model = make_cell((Node(3, (0, 1)),), 64, "fast", nn.swish)
    features = jax.tree.map(lambda s: jnp.zeros(s.shape), feature_shapes((16, 16), {3: 40, 4: 64}))
    params = jax.jit(lambda key: model.init(key, features, False))(jax.random.key(0))["params"]
    for path, (fan_in, fan_out) in {
        ("node_0_edge_0", "conv"): (40, 64),
        ("node_0_conv", "depthwise"): (9 * 64, 9),
        ("node_0_conv", "pointwise"): (64, 64),
    }.items():
        layer = params[path[0]][path[1]]
        limit = np.sqrt(6 / (fan_in + fan_out))
        assert 0.9 * limit < np.abs(layer["kernel"]).max() <= limit
        assert not np.any(layer.get("bias", 0))


def test_information_from_every_level_reaches_every_level():
    features = draw(feature_shapes((64, 64), {3: 8, 4: 12, 5: 16}))
    model = FeatureNetwork(bifpn(3, 7), 1, 8)
    variables = random_variables(model, features)
    apply = jax.jit(lambda x: model.apply(variables, x))
    before = apply(features)
    for level in features:
        after = apply({**features, level: -3 * features[level]})
        changed = {k for k in before if not np.allclose(before[k], after[k], atol=1e-4)}
        assert changed == {3, 4, 5, 6, 7}


def test_a_level_that_passes_through_gets_the_width():
    """FPN over levels 3-5 has no node at level 5, whose feature is the backbone's."""
    features = draw(feature_shapes((32, 32), {3: 4, 4: 6, 5: 10}))
    model = FeatureNetwork(fpn(3, 5), 1, 8, max_level=5)
    variables = random_variables(model, features)
    out = model.apply(variables, features)
    assert {level: x.shape[-1] for level, x in out.items()} == {3: 8, 4: 8, 5: 8}
    projected = Resample(8).apply(
        {name: tree["cell_0"]["level_5"] for name, tree in variables.items()},
        features[5],
        features[5].shape[1:3],
        False,
    )
    np.testing.assert_array_equal(out[5], projected)


def test_only_levels_that_are_read_are_made():
    for network, made in ((retinanet_fpn, set()), (nas_fpn, {6}), (bifpn, {6})):
        _, variables = init_shapes(FeatureNetwork(network(3, 7), 1, 64), feature_shapes((64, 64)))
        levels = {int(name[6:]) for name in variables["params"] if name.startswith("level_")}
        assert levels == made, network.__name__


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_attention_is_of_the_coarser_feature_whatever_the_order(order):
    features = draw(feature_shapes((16, 16), {3: 8, 4: 8}))
    cell = make_cell((Node(3, order, "attention", "merge"),), 8, "fast", nn.swish)
    out = cell.apply({}, features, False)[3]
    coarse = features[4].repeat(2, axis=1).repeat(2, axis=2)
    gate = 1 / (1 + np.exp(-coarse.max((1, 2), keepdims=True)))
    np.testing.assert_allclose(out, features[3] * gate + coarse, rtol=1e-5, atol=1e-6)


def test_operations_leave_out_what_they_say():
    """A convolution without activation keeps negative inputs; one of stride 2 halves the size."""
    x = -np.ones((1, 6, 6, 4), np.float32)
    outputs = {}
    for operation in ("act_conv", "conv", "stride_conv", "act_stride_conv"):
        level = 4 if "stride" in operation else 3
        cell = make_cell((Node(level, (0,), "sum", operation),), 4, "sum", nn.relu)
        features = {3: x, 4: None} if level == 4 else {3: x}
        variables = random_variables(cell, features, train=False)
        features = jax.tree.map(jnp.asarray, features)
        outputs[operation] = np.asarray(cell.apply(variables, features, False)[level])
    assert outputs["conv"].shape == outputs["act_conv"].shape == (1, 6, 6, 4)
    assert outputs["stride_conv"].shape == outputs["act_stride_conv"].shape == (1, 3, 3, 4)
    # What relu leaves of the input is zero: every position gives the same.
    for operation, flat in (("act_conv", True), ("conv", False), ("stride_conv", False)):
        assert (np.ptp(outputs[operation], (1, 2)).max() < 1e-6) == flat, operation


@pytest.mark.parametrize("separable", [True, False])
def test_convolutions_are_separable_or_ordinary(separable):
    model = FeatureNetwork(bifpn(3, 7), 1, 64, separable=separable)
    _, variables = init_shapes(model, feature_shapes((64, 64)))
    params = variables["params"]["cell_0"]
    for n in range(8):
        conv = params[f"node_{n}_conv"]
        shapes = {name: layer["kernel"].shape for name, layer in conv.items()}
        if separable:
            assert shapes == {"depthwise": (3, 3, 1, 64), "pointwise": (1, 1, 64, 64)}
        else:
            assert shapes == {"full": (3, 3, 64, 64)}
