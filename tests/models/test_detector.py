"""The whole detector: sizes, order of the outputs, precision, and what `create_model` refuses."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from random_weights import random_variables

from bifpn_jax.errors import UserError
from bifpn_jax.models.cost import num_parameters
from bifpn_jax.models.detector import EfficientDet, Outputs, create_model, make_anchors
from bifpn_jax.models.scaling import MODELS
from bifpn_jax.recipe import base

# Anchors at the model's own size. tests/test_configs.py has the parameters.
ANCHORS = {
    "d0": 49_104,
    "d1": 76_725,
    "d2": 110_484,
    "d3": 150_381,
    "d4": 196_416,
    "d5": 306_900,
    "d6": 306_900,
    "d7": 441_936,
    "d7x": 442_260,
    "lite0": 19_206,
    "lite1": 27_621,
    "lite2": 37_629,
    "lite3": 49_104,
    "lite3x": 76_725,
    "lite4": 76_725,
}

TINY = {
    "backbone": "nano",
    "width": 8,
    "network_repeats": 1,
    "head_repeats": 1,
}


def tiny_model(**settings):
    return create_model("d0", **{"num_classes": 3, **TINY, **settings})


def init_shapes(model, hw, batch=1):
    images = jax.ShapeDtypeStruct((batch, *hw, 3), np.float32)
    return jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x), images)


# Trainable parameters of effdet's detectors with 90 classes.
PYTORCH = {"padding": "symmetric", "conv_bias": False, "backbone_batch_norm_epsilon": 1e-5}
QUAD = {**PYTORCH, "feature_network": "qufpn"}
BILINEAR = {"upsampling": "bilinear", "downsampling": "bilinear"}
EFFDET = [
    ("d0", {"feature_network": "effdet_pan"}, 3_881_216),
    ("d0", {"feature_network": "effdet_pan", "fusion": "sum"}, 3_881_162),
    ("d0", {"feature_network": "qufpn"}, 4_131_418),
    ("d0", {"feature_network": "qufpn", "fusion": "sum"}, 4_131_304),
    ("d0", {"fusion": "sum"}, 3_880_010),
    ("d0", {"fusion": "softmax"}, 3_880_067),
    ("d0", PYTORCH, 3_877_763),
    ("d1", PYTORCH, 6_622_026),
    ("d0", QUAD, 4_126_234),
    ("d1", {**QUAD, **BILINEAR, "network_repeats": 3}, 6_976_294),
    ("d0", {**PYTORCH, "width": 80, "expanded_features": True}, 4_291_811),
    ("lite0", {"conv_bias": False, "backbone_padding": "symmetric", "fusion": "fast"}, 3_241_223),
]


@pytest.mark.parametrize(("name", "settings", "expected"), EFFDET)
def test_number_of_parameters_is_effdets(name, settings, expected):
    _, variables = init_shapes(create_model(name, **settings), (64, 64))
    assert num_parameters(variables["params"]) == expected


@pytest.mark.parametrize("name", ANCHORS)
def test_number_of_anchors_is_the_published_one(name):
    model = create_model(name)
    assert model.image_hw == (MODELS[name].image_size,) * 2
    assert make_anchors(model, model.image_hw).shape == (ANCHORS[name], 4)


@pytest.mark.parametrize("hw", [(97, 131), (1, 1), (130, 64)])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_level": 8},
        {"min_level": 4, "max_level": 6},
        {"feature_network": "effdet_pan", "padding": "symmetric"},
        {"feature_network": "qufpn", "max_level": 6, **BILINEAR},
    ],
)
def test_any_size_gives_one_output_per_anchor(hw, settings):
    model = tiny_model(**settings)
    outputs, _ = init_shapes(model, hw, batch=2)
    anchors = len(make_anchors(model, hw))
    assert outputs.class_logits.shape == (2, anchors, 3)
    assert outputs.box_codes.shape == (2, anchors, 4)


@pytest.mark.parametrize("num_classes", [1, 2, 80, 365])
def test_any_number_of_classes(num_classes):
    outputs, _ = init_shapes(tiny_model(num_classes=num_classes), (64, 64))
    assert outputs.class_logits.shape[-1] == num_classes


@pytest.mark.parametrize(("num_scales", "aspect_ratios"), [(1, (1.0,)), (2, (1.0, 2.0, 0.5, 3.0))])
def test_any_set_of_anchors(num_scales, aspect_ratios):
    model = tiny_model(num_scales=num_scales, aspect_ratios=aspect_ratios)
    outputs, _ = init_shapes(model, (65, 64))
    assert outputs.box_codes.shape == (1, len(make_anchors(model, (65, 64))), 4)


HW = (60, 100)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).standard_normal((2, *HW, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def variables(model, images):
    return random_variables(model, images)


@pytest.fixture(scope="module")
def apply(model, images):
    """(variables, level, y, x, by) -> outputs, compiled once for all tests.

    The network's features at one level and position are moved by `by`.
    """

    @jax.jit
    def run(variables, level, y, x, by):
        def move(next_fun, args, kwargs, context):
            out = next_fun(*args, **kwargs)
            if context.module.name != "feature_network" or context.method_name != "__call__":
                return out
            moved = {k: jnp.where(k == level, by, 0.0) for k in out}
            # Where the position lies beyond another level's edge, there is nothing to add.
            return {k: v.at[0, y, x].add(moved[k], mode="drop") for k, v in out.items()}

        with nn.intercept_methods(move):
            return model.apply(variables, images)

    return lambda variables, level=3, y=0, x=0, by=0.0: run(variables, level, y, x, by)


@pytest.mark.parametrize(
    ("level", "y", "x"), [(3, 0, 0), (3, 4, 11), (3, 7, 12), (4, 2, 3), (5, 1, 2), (6, 0, 1)]
)
def test_rows_are_in_the_order_of_the_anchors(model, apply, variables, level, y, x):
    """A changed feature changes the rows whose anchors lie within two cells of it.

    Two convolutions of 3x3 (one in the tower, one that predicts) reach two cells far.
    """
    before, after = apply(variables), apply(variables, level, y, x, by=1.0)
    anchors = make_anchors(model, HW)
    sizes = {k: tuple(-(-s // 2**k) for s in HW) for k in range(3, 8)}
    rows_of_level = np.repeat(list(sizes), [h * w * 9 for h, w in sizes.values()])
    stride = np.array(HW) / np.array(sizes[level])
    centre = (anchors[:, :2] + anchors[:, 2:]) / 2
    cell = np.round(centre / stride - 0.5)
    near = (np.abs(cell - np.array([[y, x]])) <= 2).all(1) & (rows_of_level == level)
    for a, b in zip(before, after, strict=True):
        changed = np.any(a != b, axis=-1)
        np.testing.assert_array_equal(changed[0], near)
        assert not changed[1].any()


def test_channels_are_anchor_times_class_and_anchor_times_code(model, apply, variables):
    """With kernels of zero the outputs are the predictors' biases."""
    zeroed = jax.tree.map(np.copy, variables)
    for head, channels in (("class_head", 9 * 3), ("box_head", 9 * 4)):
        pointwise = zeroed["params"][head]["predictor"]["pointwise"]
        pointwise["kernel"][:] = 0
        pointwise["bias"][:] = np.arange(channels)
    outputs = apply(zeroed)
    anchors = len(make_anchors(model, HW))
    for out, values in zip(outputs, (3, 4), strict=True):
        expected = np.tile(np.arange(9 * values).reshape(9, values), (anchors // 9, 1))
        np.testing.assert_array_equal(out, np.stack([expected] * 2))


def test_bfloat16_computes_the_same_roughly_with_float32_parameters(apply, images, variables):
    half = tiny_model(dtype="bfloat16")
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), init_shapes(half, HW)[1]
    )
    exact = apply(variables)
    rounded = jax.jit(half.apply)(variables, images)
    for a, b in zip(exact, rounded, strict=True):
        b = np.asarray(b, np.float32)
        assert np.isfinite(b).all()
        # Some thirty layers, each rounding to 8 bits.
        assert np.abs(a - b).max() < 0.1 * a.std()
        assert np.any(a != b)


def test_training_in_bfloat16_updates_statistics_in_float32():
    model = tiny_model(dtype="bfloat16", survival_prob=0.8)

    def train(variables, images, key):
        rngs = {"stochastic_depth": key}
        return model.apply(variables, images, True, rngs=rngs, mutable=["batch_stats"])

    _, variables = init_shapes(model, HW)
    images = jax.ShapeDtypeStruct((2, *HW, 3), np.float32)
    outputs, updates = jax.eval_shape(train, variables, images, jax.random.key(0))
    assert isinstance(outputs, Outputs)

    def as_shapes(tree):
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)

    assert as_shapes(updates) == as_shapes({"batch_stats": variables["batch_stats"]})
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}


def test_features_are_in_the_intermediates(model, images, variables):
    apply = functools.partial(model.apply, variables, mutable=["intermediates"])
    features = jax.eval_shape(apply, images)[1]["intermediates"]
    assert list(features["backbone_features"][0]) == [3, 4, 5]
    assert {x.shape[-1] for x in features["network_features"][0].values()} == {8}


def test_only_the_class_predictor_starts_with_a_bias():
    """Every anchor starts as an object with probability 0.01."""
    starts = {}

    def watch(next_fun, args, kwargs, context):
        if context.module.name == "predictor":
            starts[context.module.path[0]] = context.module.output_bias
        return next_fun(*args, **kwargs)

    with nn.intercept_methods(watch):
        init_shapes(tiny_model(), (64, 64))
    assert starts == {"class_head": pytest.approx(-4.59512, rel=1e-6), "box_head": 0}


def test_every_batch_norm_averages_over_the_named_axis():
    """One that did not would train on the statistics of its own device; the same with groups."""
    norms, groups = {}, set()

    def watch(next_fun, args, kwargs, context):
        if type(context.module).__name__ in ("BatchNorm", "StochasticDepth"):
            norms["/".join(context.module.path)] = context.module.axis_name
            groups.add(getattr(context.module, "group", 2))
        return next_fun(*args, **kwargs)

    model = tiny_model(axis_name="devices", survival_prob=0.8, batch_norm_group=2)
    with nn.intercept_methods(watch):
        _, variables = init_shapes(model, (64, 64))
    assert set(norms.values()) == {"devices"}
    assert groups == {2}
    stored = {path[:-1] for path in traverse_util.flatten_dict(variables["batch_stats"])}
    assert {"/".join(path) for path in stored} <= set(norms)


def test_symmetric_padding_is_the_same_one_mirrored():
    """At even sizes TensorFlow pads at the end and PyTorch, in effect, at the start.

    So a mirrored image under mirrored kernels gives the mirrored output: in the stem, in every
    block and in every pool, or the outputs would differ.
    """
    settings = {"max_level": 5, "backbone": "nano"}
    same, symmetric = (tiny_model(padding=p, **settings) for p in ("same", "symmetric"))
    # Even down to 4 x 6 at level 5, and the levels above the backbone's would be pooled too.
    x = np.random.default_rng(1).standard_normal((1, 128, 192, 3)).astype(np.float32)
    variables = random_variables(same, x)
    mirrored = jax.tree.map(lambda w: w[::-1, ::-1] if w.ndim == 4 else w, variables)
    outputs = jax.jit(same.apply)(variables, x)
    others = jax.jit(symmetric.apply)(mirrored, x[:, ::-1, ::-1])
    for a, b in zip(outputs, others, strict=True):
        start = 0
        for level in (3, 4, 5):
            h, w = 128 >> level, 192 >> level
            rows = slice(start, start + h * w * 9)
            a_map, b_map = (np.reshape(o[:, rows], (h, w, -1)) for o in (a, b))
            np.testing.assert_allclose(a_map, b_map[::-1, ::-1], atol=1e-4 * np.std(a_map))
            assert np.abs(a_map - b_map).max() > np.std(a_map)
            start = rows.stop


def test_settings_of_the_backbone_alone_stay_there():
    found = {}

    def watch(next_fun, args, kwargs, context):
        where = context.module.path[:1] == ("backbone",)
        for key in ("padding", "epsilon"):
            if hasattr(context.module, key):
                found.setdefault((where, key), set()).add(getattr(context.module, key))
        return next_fun(*args, **kwargs)

    settings = {"backbone_padding": "symmetric", "backbone_batch_norm_epsilon": 1e-5}
    with nn.intercept_methods(watch):
        init_shapes(tiny_model(**settings, activation="relu6"), (64, 64))
    # 1x1 convolutions have nothing to pad and keep the default.
    assert found[True, "padding"] == {"same", "symmetric"}
    assert found[True, "epsilon"] == {1e-5}
    assert found[False, "padding"] == {"same"}
    assert found[False, "epsilon"] == {1e-3}


def test_every_setting_is_a_field_of_the_configs():
    fields = set(EfficientDet.__dataclass_fields__) - {"parent", "name", "axis_name"}
    assert set(base.get_config("d0").model) == fields | {"name"}


def test_keywords_override_the_named_model():
    model = create_model("d3", num_classes=7, width=32, aspect_ratios=[[1.0, 1.0], [1.4, 0.7]])
    assert (model.num_classes, model.width, model.backbone) == (7, 32, "b3")
    assert model.aspect_ratios == ((1.0, 1.0), (1.4, 0.7))
    hash(model)  # a list among the settings would make it unfit as a static argument


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("d8", {}, "unknown model 'd8': did you mean 'd7'?"),
        ("d0", {"batch_norm_group": -1}, "batch_norm_group=-1 must be a whole number, 0 for all"),
        ("efficientdet", {}, "unknown model 'efficientdet': choose from d0, d1"),
        (3, {}, "unknown model 3: did you mean 'd3'?"),
        ("d0", {"num_clases": 3}, "unknown model setting 'num_clases': did you mean 'num_classes'"),
        ("d0", {"parent": None}, "unknown model setting 'parent'"),
        ("d0", {"backbone": "b9"}, "unknown backbone 'b9': did you mean 'b"),
        ("d0", {"fusion": "fastt"}, "unknown fusion 'fastt': did you mean 'fast'?"),
        ("d0", {"feature_network": "bifp"}, "did you mean 'bifpn'?"),
        ("d0", {"feature_network": "pan"}, "unknown feature_network 'pan': did you mean"),
        ("d0", {"padding": "symetric"}, "unknown padding 'symetric': did you mean 'symmetric'?"),
        ("d0", {"padding": ""}, "unknown padding '': choose from same, symmetric."),
        (
            "d0",
            {"backbone_padding": "sane"},
            "unknown backbone_padding 'sane': did you mean 'same'",
        ),
        ("d0", {"upsampling": "max"}, "unknown upsampling 'max': choose from nearest, bilinear."),
        ("d0", {"downsampling": "bilinar"}, "unknown downsampling 'bilinar': did you mean"),
        ("d0", {"conv_bias": "no"}, "conv_bias='no' must be True or False"),
        ("d0", {"expanded_features": 1}, "expanded_features=1 must be True or False"),
        ("d0", {"backbone_batch_norm_epsilon": 0.0}, "epsilon=0.0 must be in (0, 1)"),
        ("d0", {"activation": "swich"}, "did you mean 'swish'?"),
        ("d0", {"dtype": "bfloat"}, "did you mean 'bfloat16'?"),
        ("d0", {"dtype": jnp.bfloat16}, "unknown dtype"),
        ("d0", {"num_classes": 0}, "num_classes=0 must be a whole number, at least 1"),
        ("d0", {"num_classes": "90"}, "num_classes='90' must be a whole number"),
        ("d0", {"width": 64.5}, "width=64.5 must be a whole number"),
        ("d0", {"network_repeats": -1}, "network_repeats=-1"),
        ("d0", {"aspect_ratios": ()}, "aspect_ratios=() must be a list"),
        ("d0", {"mean_rgb": 127.0}, "mean_rgb=127.0 must be a list"),
        ("d0", {"image_hw": "512"}, "image_hw='512' must be a list"),
        ("d0", {"image_hw": (512,)}, "image_hw=(512,) must be height and width"),
        ("d0", {"std_rgb": (0.229, 0.224, 0.225)}, "multiply mean_rgb and std_rgb by 255"),
        ("d0", {"min_level": 2}, "levels 2-7 do not work"),
        ("d0", {"max_level": 11}, "levels 3-11 do not work"),
        ("d0", {"min_level": 5, "max_level": 5}, "levels 5-5 do not work"),
        ("d0", {"survival_prob": 0.0}, "survival_prob=0.0 must be in (0, 1]"),
        ("d0", {"survival_prob": 1.5}, "survival_prob=1.5 must be in (0, 1]"),
    ],
)
def test_bad_arguments_get_one_line(name, settings, message):
    with pytest.raises(UserError) as error:
        create_model(name, **settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_one_number_is_a_square_frame():
    assert create_model("d0", image_hw=128).image_hw == (128, 128)


def test_pixels_can_be_left_as_they_are():
    model = create_model("d0", mean_rgb=(0.0, 0.0, 0.0), std_rgb=(1.0, 1.0, 1.0))
    assert model.std_rgb == (1.0, 1.0, 1.0)
