from functools import partial
from itertools import pairwise

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from random_weights import random_variables

from bifpn_jax.models.backbones.efficientnet import (
    VARIANTS,
    Block,
    Classifier,
    EfficientNet,
    InvertedBottleneck,
    block_table,
    round_filters,
)

B0 = [16, 24, 40, 80, 112, 192, 320]
B2 = [16, 24, 48, 88, 120, 208, 352]
B3 = [24, 32, 48, 96, 136, 232, 384]
B4 = [24, 32, 56, 112, 160, 272, 448]

# stem, channels and repeats of the seven stages, blocks, channels at P3-P5
PUBLISHED = {
    "b0": (32, B0, [1, 2, 2, 3, 3, 4, 1], 16, (40, 112, 320)),
    "b1": (32, B0, [2, 3, 3, 4, 4, 5, 2], 23, (40, 112, 320)),
    "b2": (32, B2, [2, 3, 3, 4, 4, 5, 2], 23, (48, 120, 352)),
    "b3": (40, B3, [2, 3, 3, 5, 5, 6, 2], 26, (48, 136, 384)),
    "b4": (48, B4, [2, 4, 4, 6, 6, 8, 2], 32, (56, 160, 448)),
    "b5": (48, [24, 40, 64, 128, 176, 304, 512], [3, 5, 5, 7, 7, 9, 3], 39, (64, 176, 512)),
    "b6": (56, [32, 40, 72, 144, 200, 344, 576], [3, 6, 6, 8, 8, 11, 3], 45, (72, 200, 576)),
    "b7": (64, [32, 48, 80, 160, 224, 384, 640], [4, 7, 7, 10, 10, 13, 4], 55, (80, 224, 640)),
    "lite0": (32, B0, [1, 2, 2, 3, 3, 4, 1], 16, (40, 112, 320)),
    "lite1": (32, B0, [1, 3, 3, 4, 4, 5, 1], 21, (40, 112, 320)),
    "lite2": (32, B2, [1, 3, 3, 4, 4, 5, 1], 21, (48, 120, 352)),
    "lite3": (32, B3, [1, 3, 3, 5, 5, 6, 1], 24, (48, 136, 384)),
    "lite4": (32, B4, [1, 4, 4, 6, 6, 8, 1], 30, (56, 160, 448)),
}


def test_all_published_backbones_are_there():
    assert set(VARIANTS) == {*PUBLISHED, "nano"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_block_table_is_the_published_one(name):
    stem, blocks = block_table(VARIANTS[name])
    repeats = [sum(block.stage == stage for block in blocks) for stage in range(7)]
    channels = [[b.filters_out for b in blocks if b.stage == stage] for stage in range(7)]
    assert all(len(set(stage)) == 1 for stage in channels)
    endpoints = {b.endpoint: b.filters_out for b in blocks if b.endpoint}
    coarse = tuple(endpoints[level] for level in (3, 4, 5))
    assert (stem, [c[0] for c in channels], repeats, len(blocks), coarse) == PUBLISHED[name]
    # P1 is the output of stage 1, P2 of stage 2.
    assert (endpoints[1], endpoints[2]) == tuple(PUBLISHED[name][1][:2])


@pytest.mark.parametrize("name", VARIANTS)
def test_only_the_first_block_of_a_stage_changes_the_size(name):
    stem, blocks = block_table(VARIANTS[name])
    kernels, strides = [3, 3, 5, 3, 5, 5, 3], [1, 2, 2, 2, 1, 2, 1]
    assert blocks[0].filters_in == stem
    for before, block in pairwise(blocks):
        assert block.filters_in == before.filters_out
    for block in blocks:
        assert block.kernel == kernels[block.stage]
        assert block.stride == (strides[block.stage] if block.index == 0 else 1)
        assert block.expand == (1 if block.stage == 0 else 6)


@pytest.mark.parametrize(
    ("filters", "width", "expected"),
    [
        (32, 1.0, 32),
        (32, 1.1, 32),  # 35.2
        (320, 1.1, 352),
        (32, 1.2, 40),  # 38.4
        (112, 1.4, 160),  # 156.8
        (16, 1.4, 24),  # 22.4
        (24, 0.5, 16),  # 12 is rounded up
        (20, 0.5, 16),  # 10 is rounded to 8, which is below 9
        (1, 1.0, 8),
    ],
)
def test_filters_are_rounded_to_multiples_of_eight(filters, width, expected):
    assert round_filters(filters, width) == expected


def shapes(model, hw, batch=2):
    images = jax.ShapeDtypeStruct((batch, *hw, 3), np.float32)
    return jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x), images)


@pytest.mark.parametrize("hw", [(97, 131), (64, 32), (1, 33)])
def test_features_halve_and_round_up(hw):
    features, _ = shapes(EfficientNet("b0"), hw)
    assert list(features) == [1, 2, 3, 4, 5]
    for level, channels in zip(range(1, 6), (16, 24, 40, 112, 320), strict=True):
        h, w = (-(-size // 2**level) for size in hw)
        assert features[level].shape == (2, h, w, channels)


@pytest.mark.parametrize("hw", [(97, 131), (64, 32)])
def test_symmetric_padding_changes_no_size(hw):
    same, symmetric = (shapes(EfficientNet("b0", padding=p), hw) for p in ("same", "symmetric"))
    assert same == symmetric


# Five by five, 16 channels expanded to 96, with a residual.
BLOCK = InvertedBottleneck(
    Block(1, 1, 16, 16, 5, 1, 6, 0), True, activation=nn.swish, survival_prob=0.5
)


def test_expanded_features_are_those_of_the_last_block_of_a_level():
    expanded, endpoints = {}, {}

    def watch(next_fun, args, kwargs, context):
        out = next_fun(*args, **kwargs)
        if type(context.module) is InvertedBottleneck:
            expanded[context.module.path[0]] = out[1]
        elif type(context.module) is EfficientNet:
            for level, x in out.items():
                endpoints[level] = next(block for block, own in expanded.items() if own is x)
        return out

    model = EfficientNet("b0", expanded_features=True)
    with nn.intercept_methods(watch):
        features, _ = shapes(model, (64, 64))
    assert endpoints == {1: "block_0", 2: "block_2", 3: "block_4", 4: "block_10", 5: "block_15"}
    channels = [x.shape[-1] for x in features.values()]
    assert channels == [32, 6 * 24, 6 * 40, 6 * 112, 6 * 192]


@pytest.mark.parametrize("squeeze_excite", [True, False])
def test_expanded_features_are_what_the_projection_reads(squeeze_excite):
    block = BLOCK.clone(squeeze_excite=squeeze_excite, expanded_output=True)
    reads = []

    def watch(next_fun, args, kwargs, context):
        if context.module.name == "project_conv":
            reads.append(args)
        return next_fun(*args, **kwargs)

    x = np.random.default_rng(0).standard_normal((1, 4, 4, 16)).astype(np.float32)
    with nn.intercept_methods(watch):
        (_, expanded), _ = block.init_with_output(jax.random.key(0), x, False)
    ((read, *gates),) = reads
    assert len(gates) == squeeze_excite
    np.testing.assert_allclose(expanded, read * gates[0] if gates else read, rtol=1e-6)


@pytest.mark.parametrize(("name", "head"), [("b0", 1280), ("b2", 1408), ("lite2", 1280)])
def test_classifier_has_the_published_head(name, head):
    logits, variables = shapes(Classifier(name), (64, 65))
    assert logits.shape == (2, 1000)
    params = variables["params"]
    assert params["head_conv"]["kernel"].shape == (1, 1, 352 if "2" in name else 320, head)
    assert params["classifier"]["kernel"].shape == (head, 1000)


@pytest.mark.parametrize(
    ("name", "millions"), [("b0", 5.288548), ("b1", 7.794184), ("lite0", 4.652008)]
)
def test_classifier_has_the_size_of_the_published_one(name, millions):
    _, variables = shapes(Classifier(name), (64, 64))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == millions * 1e6


def test_lite_has_no_squeeze_and_excite():
    paths = [
        path
        for name in ("lite0", "b0")
        for path in traverse_util.flatten_dict(shapes(EfficientNet(name), (32, 32))[1]["params"])
        if "squeeze_excite" in path
    ]
    assert len(paths) == 16 * 4


def test_squeeze_excite_width_comes_from_the_blocks_input():
    _, variables = shapes(EfficientNet("b0"), (32, 32))
    # Block 1 has 16 channels in, 96 after its expansion.
    reduce = variables["params"]["block_1"]["squeeze_excite"]["reduce"]["kernel"]
    assert reduce.shape == (1, 1, 96, 4)


def test_initial_kernels_have_variance_two_over_fan_out():
    init = jax.jit(partial(BLOCK.init, train=False))
    params = init(jax.random.key(0), jnp.zeros((1, 4, 4, 16)))["params"]
    spreads = {}
    for path, value in traverse_util.flatten_dict(params).items():
        if path[-1] == "kernel":
            kh, kw, _, out = value.shape
            fan_out = kh * kw if "depthwise_conv" in path else kh * kw * out
            spreads[path] = float(value.std()) / np.sqrt(2 / fan_out)
            assert spreads[path] == pytest.approx(1, abs=5 / np.sqrt(2 * value.size)), path
    assert len(spreads) == 5


def test_stochastic_depth_grows_with_the_block_and_only_touches_residual_ones():
    model = EfficientNet("b0", survival_prob=0.8)
    found = {}

    def watch(next_fun, args, kwargs, context):
        if type(context.module).__name__ == "StochasticDepth":
            found[int(context.module.path[0].removeprefix("block_"))] = context.module.survival_prob
        return next_fun(*args, **kwargs)

    with nn.intercept_methods(watch):
        shapes(model, (32, 32))
    _, blocks = block_table(VARIANTS["b0"])
    expected = {
        i: 1 - 0.2 * i / 16
        for i, block in enumerate(blocks)
        if block.stride == 1 and block.filters_in == block.filters_out
    }
    assert found == pytest.approx(expected)
    assert len(found) == 9


def test_every_key_drops_other_images():
    x = np.random.default_rng(0).normal(size=(16, 4, 4, 16)).astype(np.float32)
    variables = random_variables(BLOCK, x, train=False)

    @jax.jit
    def residual(key):
        rngs = {"stochastic_depth": key}
        return BLOCK.apply(variables, x, True, rngs=rngs, mutable=["batch_stats"])[0][0] - x

    first, second, again = (residual(jax.random.key(seed)) for seed in (1, 2, 1))
    np.testing.assert_array_equal(first, again)
    dropped = [np.all(r == 0, axis=(1, 2, 3)) for r in (first, second)]
    assert all(0 < d.sum() < 16 for d in dropped)
    assert np.any(dropped[0] != dropped[1])
