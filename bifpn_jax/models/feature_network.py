"""Runs any graph of fusion nodes over pyramid features (paper section 3)."""

import flax.linen as nn
import jax

from bifpn_jax.models.convolutions import max_pool
from bifpn_jax.models.fusion import Fusion
from bifpn_jax.models.graphs import Graph, Node, output_ids
from bifpn_jax.models.layers import (
    ACTIVATIONS,
    BATCH_NORM_MOMENTUM,
    BatchNorm,
    Conv,
    SeparableConv,
)
from bifpn_jax.models.resizing import resize_bilinear, resize_nearest

Array = jax.Array

UPSAMPLINGS = {"nearest": resize_nearest, "bilinear": resize_bilinear}
DOWNSAMPLINGS = ("max", "bilinear")


class Resample(nn.Module):
    """Brings one feature to a node's size and width: 1x1 convolution, then a change of size.

    Every edge of the graph has its own: the published models hold two projections of P4 and of P5.
    Attributes are those of `FeatureNetwork`.
    """

    width: int
    axis_name: str | None = None
    momentum: float = BATCH_NORM_MOMENTUM
    padding: str = "same"
    conv_bias: bool = True
    upsampling: str = "nearest"
    downsampling: str = "max"

    @nn.compact
    def __call__(self, x: Array, hw: tuple[int, int], train: bool) -> Array:
        """[B, H, W, C] -> [B, *hw, width]; no convolution where C is `width` already."""
        if x.shape[-1] != self.width:
            x = Conv(self.width, use_bias=self.conv_bias, name="conv")(x)
            x = BatchNorm(self.axis_name, self.momentum, name="bn")(x, train)
        if x.shape[1] > hw[0] or x.shape[2] > hw[1]:
            if self.downsampling == "bilinear":
                return resize_bilinear(x, hw)
            stride = max((s - 1) // t + 1 for s, t in zip(x.shape[1:3], hw, strict=True))
            x = max_pool(x, window=stride + 1, stride=stride, padding=self.padding)
        return x if x.shape[1:3] == hw else UPSAMPLINGS[self.upsampling](x, hw)


class Cell(nn.Module):
    """One pass over the graph. A node: resample, fuse, activation, separable 3x3, batch norm.

    Attributes are those of `FeatureNetwork`.
    """

    graph: Graph
    width: int
    fusion: str
    activation: str
    axis_name: str | None = None
    momentum: float = BATCH_NORM_MOMENTUM
    padding: str = "same"
    conv_bias: bool = True
    upsampling: str = "nearest"
    downsampling: str = "max"

    @nn.compact
    def __call__(self, features: dict[int, Array], train: bool) -> dict[int, Array]:
        """{level: [B, H_l, W_l, C_l]} -> {level: [B, H_l, W_l, width]}."""
        levels = sorted(features)
        values = [features[level] for level in levels]
        sizes = {level: features[level].shape[1:3] for level in levels}
        for n, node in enumerate(self.graph):
            values.append(self._node(n, node, values, sizes[node.level], train))
        ids = output_ids(self.graph, levels[0], levels[-1])
        return {level: values[i] for level, i in zip(levels, ids, strict=True)}

    def _node(
        self, n: int, node: Node, values: list[Array], hw: tuple[int, int], train: bool
    ) -> Array:
        resampled = [
            Resample(
                self.width,
                self.axis_name,
                self.momentum,
                self.padding,
                self.conv_bias,
                self.upsampling,
                self.downsampling,
                name=f"node_{n}_edge_{i}",
            )(values[i], hw, train)
            for i in node.inputs
        ]
        x = Fusion(node.fusion or self.fusion, name=f"node_{n}_fusion")(resampled)
        x = ACTIVATIONS[self.activation](x)
        x = SeparableConv(self.width, use_bias=self.conv_bias, name=f"node_{n}_conv")(x)
        return BatchNorm(self.axis_name, self.momentum, name=f"node_{n}_bn")(x, train)


class FeatureNetwork(nn.Module):
    """Extra coarse levels, then `repeats` cells of one graph.

    Attributes:
        graph: nodes over levels min_level .. max_level.
        repeats: number of cells.
        width: channels of every node.
        max_level: coarsest level; levels above the backbone's are made from the one below by
            `downsampling`, the first of them after a 1x1 convolution.
        fusion: a key of `fusion.NORMALIZERS`.
        activation: a key of `layers.ACTIVATIONS`.
        axis_name: mapped axis for batch statistics, or None.
        momentum: of the running batch statistics.
        padding: of max-pooling, key of `convolutions.PADDINGS`; the convolutions have stride 1,
            where every padding is the same.
        conv_bias: bias of the convolutions, all of which a batch norm follows.
        upsampling: key of `UPSAMPLINGS`.
        downsampling: one of `DOWNSAMPLINGS`.
    """

    graph: Graph
    repeats: int
    width: int
    max_level: int = 7
    fusion: str = "fast"
    activation: str = "swish"
    axis_name: str | None = None
    momentum: float = BATCH_NORM_MOMENTUM
    padding: str = "same"
    conv_bias: bool = True
    upsampling: str = "nearest"
    downsampling: str = "max"

    @nn.compact
    def __call__(self, features: dict[int, Array], train: bool = False) -> dict[int, Array]:
        """{level: [B, H_l, W_l, C_l]} of the backbone -> {level: [B, H_l, W_l, width]}."""
        features = dict(features)
        settings = {
            "axis_name": self.axis_name,
            "momentum": self.momentum,
            "padding": self.padding,
            "conv_bias": self.conv_bias,
            "upsampling": self.upsampling,
            "downsampling": self.downsampling,
        }
        for level in range(max(features) + 1, self.max_level + 1):
            below = features[level - 1]
            hw = tuple(-(-size // 2) for size in below.shape[1:3])
            resample = Resample(self.width, name=f"level_{level}", **settings)
            features[level] = resample(below, hw, train)
        for i in range(self.repeats):
            cell = Cell(
                self.graph, self.width, self.fusion, self.activation, name=f"cell_{i}", **settings
            )
            features = cell(features, train)
        return features
