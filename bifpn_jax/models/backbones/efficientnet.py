"""EfficientNet B0-B7 (arXiv 1905.11946) and EfficientNet-Lite: the backbones.

The architecture is a table of stages, scaled in width and depth by two coefficients. Endpoint l has
stride 2^l: P3 is the output of stage 3, P4 of stage 5, P5 of stage 7.
"""

import math
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax

from bifpn_jax.models.initializers import Initializer, backbone_depthwise_init, backbone_init
from bifpn_jax.models.layers import (
    Activation,
    BatchNorm,
    Conv,
    DepthwiseConv,
    Layer,
    SqueezeExcite,
    StochasticDepth,
    recomputed,
)
from bifpn_jax.ops import convolution

Array = jax.Array


class Stage(NamedTuple):
    """A row of the block table: `repeats` blocks, the first with `stride`."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    filters: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
STEM_FILTERS = 32
HEAD_FILTERS = 1280
SQUEEZE_RATIO = 0.25


class Variant(NamedTuple):
    """Scaling coefficients of one EfficientNet.

    Lite: no squeeze-and-excite, relu6, stem and first and last stage repeats not scaled.
    """

    width: float
    depth: float
    image_size: int  # of the ImageNet classifier
    dropout: float  # of the ImageNet classifier
    lite: bool = False


VARIANTS = {
    "b0": Variant(1.0, 1.0, 224, 0.2),
    "b1": Variant(1.0, 1.1, 240, 0.2),
    "b2": Variant(1.1, 1.2, 260, 0.3),
    "b3": Variant(1.2, 1.4, 300, 0.3),
    "b4": Variant(1.4, 1.8, 380, 0.4),
    "b5": Variant(1.6, 2.2, 456, 0.4),
    "b6": Variant(1.8, 2.6, 528, 0.5),
    "b7": Variant(2.0, 3.1, 600, 0.5),
    "lite0": Variant(1.0, 1.0, 224, 0.2, lite=True),
    "lite1": Variant(1.0, 1.1, 240, 0.2, lite=True),
    "lite2": Variant(1.1, 1.2, 260, 0.3, lite=True),
    "lite3": Variant(1.2, 1.4, 280, 0.3, lite=True),
    "lite4": Variant(1.4, 1.8, 300, 0.3, lite=True),
    # Not published: half of B0 in both directions, for runs on a laptop and for tests.
    "nano": Variant(0.5, 0.5, 128, 0.2),
}


class Block(NamedTuple):
    """One inverted-bottleneck block with its real sizes."""

    stage: int  # row of STAGES
    index: int  # position within the stage
    filters_in: int
    filters_out: int
    kernel: int
    stride: int
    expand: int
    endpoint: int  # level of the features after this block, 0 if a later block has the same level


def round_filters(filters: int, width: float) -> int:
    """Scaled channels, the nearest multiple of 8 that is not below 90 %."""
    scaled = filters * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def block_table(variant: Variant) -> tuple[int, list[Block]]:
    """Channels of the stem and the list of all blocks."""
    stem = STEM_FILTERS if variant.lite else round_filters(STEM_FILTERS, variant.width)
    blocks, filters, level = [], stem, 1
    for row, stage in enumerate(STAGES):
        fixed = variant.lite and row in (0, len(STAGES) - 1)
        repeats = stage.repeats if fixed else math.ceil(stage.repeats * variant.depth)
        out = round_filters(stage.filters, variant.width)
        if stage.stride == 2:
            blocks[-1] = blocks[-1]._replace(endpoint=level)
            level += 1
        for i in range(repeats):
            stride = stage.stride if i == 0 else 1
            blocks.append(Block(row, i, filters, out, stage.kernel, stride, stage.expand, 0))
            filters = out
    blocks[-1] = blocks[-1]._replace(endpoint=level)
    return stem, blocks


class GatedConv(nn.Module):
    """1x1 convolution, without bias, of an array whose channels are gated."""

    features: int
    kernel_init: Initializer = backbone_init

    @nn.compact
    def __call__(self, x: Array, gate: Array) -> Array:
        """[B, H, W, Cin] and a gate [B, 1, 1, Cin] -> [B, H, W, features]."""
        kernel = self.param("kernel", self.kernel_init, (1, 1, x.shape[-1], self.features))
        return convolution.gated_conv(x, gate, kernel.astype(x.dtype))


class InvertedBottleneck(nn.Module):
    """MBConv: expand 1x1, depthwise k x k, squeeze-and-excite, project 1x1, residual.

    Attributes are those of `EfficientNet`, and:
        block: its sizes.
        squeeze_excite: whether its channels are gated.
        expanded_output: whether what the projection reads is wanted, too.
    """

    block: Block
    squeeze_excite: bool
    norm: Layer = BatchNorm
    activation: Activation = nn.swish
    drop: Layer = StochasticDepth
    survival_prob: float = 1.0
    padding: str = "same"
    expanded_output: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[Array, Array | None]:
        """[B, H, W, filters_in] -> [B, ceil(H / stride), ceil(W / stride), filters_out].

        Returns:
            The block's output, and what its projection reads if `expanded_output`.
        """
        block = self.block
        conv = partial(Conv, use_bias=False, kernel_init=backbone_init)
        activated = partial(self.norm, activation=self.activation)
        inputs = x
        if block.expand != 1:
            x = conv(block.filters_in * block.expand, name="expand_conv")(x)
            x = activated(name="expand_bn")(x, train)
        x = DepthwiseConv(
            block.kernel,
            block.stride,
            backbone_depthwise_init,
            self.padding,
            name="depthwise_conv",
        )(x)
        x = activated(name="depthwise_bn")(x, train)
        expanded = x
        if self.squeeze_excite:
            squeezed = max(1, int(SQUEEZE_RATIO * block.filters_in))
            gate = SqueezeExcite(squeezed, self.activation, name="squeeze_excite")(x)
            expanded = x * gate if self.expanded_output else None
            x = GatedConv(block.filters_out, name="project_conv")(x, gate)
        else:
            x = conv(block.filters_out, name="project_conv")(x)
        x = self.norm(name="project_bn")(x, train)
        if block.stride == 1 and block.filters_in == block.filters_out:
            x = inputs + self.drop(self.survival_prob, name="stochastic_depth")(x, train)
        return x, expanded if self.expanded_output else None


class EfficientNet(nn.Module):
    """Backbone: an image to features at levels 1-5.

    Attributes:
        variant: key of `VARIANTS`.
        norm: makes a normalisation layer, see `layers.BatchNorm`.
        activation: elementwise function.
        drop: makes a layer that drops residual branches, see `layers.StochasticDepth`.
        survival_prob: of the last block; block i of n survives with 1 - (1 - p) * i / n.
        padding: key of `convolution.PADDINGS`.
        expanded_features: a level's features are what the projection of its last block reads,
            several times wider, instead of that block's output.
        remat: compute every block once more in the backward pass instead of keeping its inside.
    """

    variant: str = "b0"
    norm: Layer = BatchNorm
    activation: Activation = nn.swish
    drop: Layer = StochasticDepth
    survival_prob: float = 1.0
    padding: str = "same"
    expanded_features: bool = False
    remat: bool = False

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> dict[int, Array]:
        """Normalised images [B, H, W, 3] -> {level: [B, ceil(H / 2^level), ..., C]} for 1-5."""
        variant = VARIANTS[self.variant]
        stem, blocks = block_table(variant)
        conv = partial(Conv, use_bias=False, kernel_init=backbone_init, padding=self.padding)
        x = conv(stem, 3, 2, name="stem_conv")(images)
        x = self.norm(activation=self.activation, name="stem_bn")(x, train)
        features = {}
        block_class = recomputed(InvertedBottleneck, self.remat)
        for i, block in enumerate(blocks):
            x, expanded = block_class(
                block,
                squeeze_excite=not variant.lite,
                norm=self.norm,
                activation=self.activation,
                drop=self.drop,
                survival_prob=1.0 - (1.0 - self.survival_prob) * i / len(blocks),
                padding=self.padding,
                expanded_output=self.expanded_features and bool(block.endpoint),
                name=f"block_{i}",
            )(x, train)
            if block.endpoint:
                features[block.endpoint] = x if expanded is None else expanded
        return features


class Classifier(nn.Module):
    """EfficientNet with its ImageNet head, for classification checkpoints.

    Attributes:
        variant: key of `VARIANTS`.
        num_classes: outputs; 1000 for ImageNet.
        survival_prob: of the last block, as in `EfficientNet`.
        norm: makes a normalisation layer.
        padding: key of `convolution.PADDINGS`.
    """

    variant: str = "b0"
    num_classes: int = 1000
    survival_prob: float = 0.8
    norm: Layer = BatchNorm
    padding: str = "same"

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        """Normalised images [B, H, W, 3] -> logits [B, num_classes], float32.

        Training needs the rng streams "stochastic_depth" and "dropout".
        """
        variant = VARIANTS[self.variant]
        activation = nn.relu6 if variant.lite else nn.swish
        features = EfficientNet(
            self.variant,
            norm=self.norm,
            activation=activation,
            survival_prob=self.survival_prob,
            padding=self.padding,
            name="backbone",
        )(images, train)
        filters = HEAD_FILTERS if variant.lite else round_filters(HEAD_FILTERS, variant.width)
        x = Conv(filters, use_bias=False, kernel_init=backbone_init, name="head_conv")(features[5])
        x = self.norm(activation=activation, name="head_bn")(x, train)
        x = x.mean((1, 2))
        x = nn.Dropout(variant.dropout, deterministic=not train)(x)
        logits = nn.Dense(self.num_classes, name="classifier")(x)
        return logits.astype("float32")
