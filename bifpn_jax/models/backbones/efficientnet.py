"""EfficientNet B0-B7 (arXiv 1905.11946) and EfficientNet-Lite: the backbones.

The architecture is a table of stages, scaled in width and depth by two coefficients. Endpoint l has
stride 2^l: P3 is the output of stage 3, P4 of stage 5, P5 of stage 7.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax

from bifpn_jax.models.initializers import backbone_depthwise_init, backbone_init
from bifpn_jax.models.layers import (
    BATCH_NORM_EPSILON,
    BATCH_NORM_MOMENTUM,
    BatchNorm,
    Conv,
    DepthwiseConv,
    SqueezeExcite,
    StochasticDepth,
    recomputed,
)

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


class Backbone(NamedTuple):
    """Scaling coefficients of one backbone.

    Lite: no squeeze-and-excite, relu6, stem and first and last stage repeats not scaled.
    """

    width: float
    depth: float
    image_size: int  # of the ImageNet classifier
    dropout: float  # of the ImageNet classifier
    lite: bool = False


BACKBONES = {
    "b0": Backbone(1.0, 1.0, 224, 0.2),
    "b1": Backbone(1.0, 1.1, 240, 0.2),
    "b2": Backbone(1.1, 1.2, 260, 0.3),
    "b3": Backbone(1.2, 1.4, 300, 0.3),
    "b4": Backbone(1.4, 1.8, 380, 0.4),
    "b5": Backbone(1.6, 2.2, 456, 0.4),
    "b6": Backbone(1.8, 2.6, 528, 0.5),
    "b7": Backbone(2.0, 3.1, 600, 0.5),
    "lite0": Backbone(1.0, 1.0, 224, 0.2, lite=True),
    "lite1": Backbone(1.0, 1.1, 240, 0.2, lite=True),
    "lite2": Backbone(1.1, 1.2, 260, 0.3, lite=True),
    "lite3": Backbone(1.2, 1.4, 280, 0.3, lite=True),
    "lite4": Backbone(1.4, 1.8, 300, 0.3, lite=True),
    # Not published: half of B0 in both directions, for runs on a laptop and for tests.
    "nano": Backbone(0.5, 0.5, 128, 0.2),
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


def block_table(backbone: Backbone) -> tuple[int, list[Block]]:
    """Channels of the stem and the list of all blocks of a backbone."""
    stem = STEM_FILTERS if backbone.lite else round_filters(STEM_FILTERS, backbone.width)
    blocks, filters, level = [], stem, 1
    for row, stage in enumerate(STAGES):
        fixed = backbone.lite and row in (0, len(STAGES) - 1)
        repeats = stage.repeats if fixed else math.ceil(stage.repeats * backbone.depth)
        out = round_filters(stage.filters, backbone.width)
        if stage.stride == 2:
            blocks[-1] = blocks[-1]._replace(endpoint=level)
            level += 1
        for i in range(repeats):
            stride = stage.stride if i == 0 else 1
            blocks.append(Block(row, i, filters, out, stage.kernel, stride, stage.expand, 0))
            filters = out
    blocks[-1] = blocks[-1]._replace(endpoint=level)
    return stem, blocks


class InvertedBottleneck(nn.Module):
    """MBConv: expand 1x1, depthwise k x k, squeeze-and-excite, project 1x1, residual."""

    block: Block
    squeeze_excite: bool
    activation: str
    survival_prob: float = 1.0
    axis_name: str | None = None
    momentum: float = BATCH_NORM_MOMENTUM
    padding: str = "same"
    epsilon: float = BATCH_NORM_EPSILON
    expanded_output: bool = False
    batch_norm_group: int = 0

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[Array, Array | None]:
        """[B, H, W, filters_in] -> [B, ceil(H / stride), ceil(W / stride), filters_out].

        Returns:
            The block's output, and what its projection reads if `expanded_output`.
        """
        block = self.block

        def norm(x: Array, name: str, activation: str = "") -> Array:
            settings = (self.axis_name, self.momentum, self.epsilon, activation)
            return BatchNorm(*settings, self.batch_norm_group, name=f"{name}_bn")(x, train)

        def conv(x: Array, features: int, name: str, gate: Array | None = None) -> Array:
            layer = Conv(features, use_bias=False, kernel_init=backbone_init, name=f"{name}_conv")
            return layer(x, gate)

        inputs = x
        if block.expand != 1:
            x = conv(x, block.filters_in * block.expand, "expand")
            x = norm(x, "expand", self.activation)
        x = DepthwiseConv(
            block.kernel,
            block.stride,
            backbone_depthwise_init,
            self.padding,
            name="depthwise_conv",
        )(x)
        x = norm(x, "depthwise", self.activation)
        gate = expanded = None
        if self.squeeze_excite:
            squeezed = max(1, int(SQUEEZE_RATIO * block.filters_in))
            gate = SqueezeExcite(squeezed, self.activation, name="squeeze_excite")(x)
        if self.expanded_output:
            expanded = x if gate is None else x * gate
        x = norm(conv(x, block.filters_out, "project", gate), "project")
        if block.stride == 1 and block.filters_in == block.filters_out:
            drop = StochasticDepth(self.survival_prob, self.axis_name, name="stochastic_depth")
            x = inputs + drop(x, train)
        return x, expanded


class EfficientNet(nn.Module):
    """Backbone: an image to features at levels 1-5.

    Attributes:
        variant: key of `BACKBONES`.
        activation: key of `ACTIVATIONS`.
        survival_prob: of the last block; block i of n survives with 1 - (1 - p) * i / n.
        axis_name: mapped axis for batch statistics, or None.
        momentum: of the running batch statistics.
        padding: key of `convolutions.PADDINGS`.
        epsilon: of batch norm.
        expanded_features: a level's features are what the projection of its last block reads,
            several times wider, instead of that block's output.
        remat: compute every block once more in the backward pass instead of keeping its inside.
        batch_norm_group: replicas that share batch statistics, 0 for all.
    """

    variant: str = "b0"
    activation: str = "swish"
    survival_prob: float = 1.0
    axis_name: str | None = None
    momentum: float = BATCH_NORM_MOMENTUM
    padding: str = "same"
    epsilon: float = BATCH_NORM_EPSILON
    expanded_features: bool = False
    remat: bool = False
    batch_norm_group: int = 0

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> dict[int, Array]:
        """Normalised images [B, H, W, 3] -> {level: [B, ceil(H / 2^level), ..., C]} for 1-5."""
        backbone = BACKBONES[self.variant]
        stem, blocks = block_table(backbone)
        x = Conv(
            stem,
            3,
            2,
            use_bias=False,
            kernel_init=backbone_init,
            padding=self.padding,
            name="stem_conv",
        )(images)
        settings = (self.axis_name, self.momentum, self.epsilon, self.activation)
        x = BatchNorm(*settings, self.batch_norm_group, name="stem_bn")(x, train)
        features = {}
        block_class = recomputed(InvertedBottleneck, self.remat)
        for i, block in enumerate(blocks):
            x, expanded = block_class(
                block,
                squeeze_excite=not backbone.lite,
                activation=self.activation,
                survival_prob=1.0 - (1.0 - self.survival_prob) * i / len(blocks),
                axis_name=self.axis_name,
                momentum=self.momentum,
                padding=self.padding,
                epsilon=self.epsilon,
                expanded_output=self.expanded_features and bool(block.endpoint),
                batch_norm_group=self.batch_norm_group,
                name=f"block_{i}",
            )(x, train)
            if block.endpoint:
                features[block.endpoint] = x if expanded is None else expanded
        return features


class Classifier(nn.Module):
    """EfficientNet with its ImageNet head, for classification checkpoints.

    Attributes:
        variant: key of `BACKBONES`.
        num_classes: outputs; 1000 for ImageNet.
        survival_prob: of the last block, as in `EfficientNet`.
        axis_name: mapped axis for batch statistics, or None.
        momentum: of the running batch statistics.
        padding: key of `convolutions.PADDINGS`.
        epsilon: of batch norm.
    """

    variant: str = "b0"
    num_classes: int = 1000
    survival_prob: float = 0.8
    axis_name: str | None = None
    momentum: float = BATCH_NORM_MOMENTUM
    padding: str = "same"
    epsilon: float = BATCH_NORM_EPSILON

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        """Normalised images [B, H, W, 3] -> logits [B, num_classes], float32.

        Training needs the rng streams "stochastic_depth" and "dropout".
        """
        backbone = BACKBONES[self.variant]
        activation = "relu6" if backbone.lite else "swish"
        features = EfficientNet(
            self.variant,
            activation,
            self.survival_prob,
            self.axis_name,
            self.momentum,
            self.padding,
            self.epsilon,
            name="backbone",
        )(images, train)
        filters = HEAD_FILTERS if backbone.lite else round_filters(HEAD_FILTERS, backbone.width)
        x = Conv(filters, use_bias=False, kernel_init=backbone_init, name="head_conv")(features[5])
        x = BatchNorm(self.axis_name, self.momentum, self.epsilon, activation, name="head_bn")(
            x, train
        )
        x = x.mean((1, 2))
        x = nn.Dropout(backbone.dropout, deterministic=not train)(x)
        logits = nn.Dense(self.num_classes, name="classifier")(x)
        return logits.astype("float32")
