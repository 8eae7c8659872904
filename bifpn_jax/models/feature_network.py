"""Runs any graph of fusion nodes over pyramid features (paper section 3)."""

import flax.linen as nn
import jax

from bifpn_jax.models import convolutions
from bifpn_jax.models.fusion import Fusion
from bifpn_jax.models.graphs import Graph, output_ids
from bifpn_jax.models.layers import (
    ACTIVATIONS,
    BATCH_NORM_MOMENTUM,
    BatchNorm,
    Conv,
    SeparableConv,
)

Array = jax.Array


class Resample(nn.Module):
    """Brings one feature to a node's size and width: 1x1 convolution, then pool or repeat.

    Every edge of the graph has its own: the published models hold two projections of P4 and of P5.
    """

    width: int
    axis_name: str | None = None
    momentum: float = BATCH_NORM_MOMENTUM

    @nn.compact
    def __call__(self, x: Array, hw: tuple[int, int], train: bool) -> Array:
        """[B, H, W, C] -> [B, *hw, width]; no convolution where C is `width` already."""
        if x.shape[-1] != self.width:
            x = Conv(self.width, name="conv")(x)
            x = BatchNorm(self.axis_name, self.momentum, name="bn")(x, train)
        if x.shape[1] > hw[0] or x.shape[2] > hw[1]:
            stride = max((s - 1) // t + 1 for s, t in zip(x.shape[1:3], hw, strict=True))
            x = convolutions.max_pool(x, window=stride + 1, stride=stride)
        if x.shape[1:3] != hw:
            x = convolutions.resize_nearest(x, hw)
        return x


class Cell(nn.Module):
    """One pass over the graph. A node: resample, fuse, activation, separable 3x3, batch norm."""

    graph: Graph
    width: int
    fusion: str
    activation: str
    axis_name: str | None = None
    momentum: float = BATCH_NORM_MOMENTUM

    @nn.compact
    def __call__(self, features: dict[int, Array], train: bool) -> dict[int, Array]:
        """{level: [B, H_l, W_l, C_l]} -> {level: [B, H_l, W_l, width]}."""
        levels = sorted(features)
        values = [features[level] for level in levels]
        sizes = {level: features[level].shape[1:3] for level in levels}
        for n, node in enumerate(self.graph):
            values.append(self._node(n, node.inputs, values, sizes[node.level], train))
        ids = output_ids(self.graph, levels[0], levels[-1])
        return {level: values[i] for level, i in zip(levels, ids, strict=True)}

    def _node(
        self, n: int, inputs: tuple[int, ...], values: list[Array], hw: tuple[int, int], train: bool
    ) -> Array:
        resampled = [
            Resample(self.width, self.axis_name, self.momentum, name=f"node_{n}_edge_{i}")(
                values[i], hw, train
            )
            for i in inputs
        ]
        x = Fusion(self.fusion, name=f"node_{n}_fusion")(resampled)
        x = ACTIVATIONS[self.activation](x)
        x = SeparableConv(self.width, name=f"node_{n}_conv")(x)
        return BatchNorm(self.axis_name, self.momentum, name=f"node_{n}_bn")(x, train)


class FeatureNetwork(nn.Module):
    """Extra coarse levels, then `repeats` cells of one graph.

    Attributes:
        graph: nodes over levels min_level .. max_level.
        repeats: number of cells.
        width: channels of every node.
        max_level: coarsest level; levels above the backbone's are pooled from the one below, the
            first of them after a 1x1 convolution.
        fusion: a key of `fusion.NORMALIZERS`.
        activation: a key of `layers.ACTIVATIONS`.
        axis_name: mapped axis for batch statistics, or None.
        momentum: of the running batch statistics.
    """

    graph: Graph
    repeats: int
    width: int
    max_level: int = 7
    fusion: str = "fast"
    activation: str = "swish"
    axis_name: str | None = None
    momentum: float = BATCH_NORM_MOMENTUM

    @nn.compact
    def __call__(self, features: dict[int, Array], train: bool = False) -> dict[int, Array]:
        """{level: [B, H_l, W_l, C_l]} of the backbone -> {level: [B, H_l, W_l, width]}."""
        features = dict(features)
        for level in range(max(features) + 1, self.max_level + 1):
            below = features[level - 1]
            hw = tuple(-(-size // 2) for size in below.shape[1:3])
            resample = Resample(self.width, self.axis_name, self.momentum, name=f"level_{level}")
            features[level] = resample(below, hw, train)
        for i in range(self.repeats):
            cell = Cell(
                self.graph,
                self.width,
                self.fusion,
                self.activation,
                self.axis_name,
                self.momentum,
                name=f"cell_{i}",
            )
            features = cell(features, train)
        return features
