"""Runs any graph of fusion nodes over pyramid features (paper section 3)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax

from bifpn_jax.models.fusion import Fusion, global_attention
from bifpn_jax.models.graphs import Graph, Node, level_of, output_ids
from bifpn_jax.models.layers import (
    Activation,
    BatchNorm,
    Conv,
    Layer,
    SeparableConv,
    recomputed,
)
from bifpn_jax.models.networks import network_graph
from bifpn_jax.named_parts import call_with_known, is_code, load_code
from bifpn_jax.ops.convolution import max_pool
from bifpn_jax.ops.resizing import resize_bilinear, resize_nearest

Array = jax.Array

UPSAMPLINGS = {"nearest": resize_nearest, "bilinear": resize_bilinear}
DOWNSAMPLINGS = ("max", "bilinear")


class Resample(nn.Module):
    """Bring one feature to a node's width and size: 1x1 convolution, then resizing.

    Every edge of the graph has its own: the published models have two projections of P4 and of P5.
    Attributes are those of `FeatureNetwork`.
    """

    width: int
    norm: Layer = BatchNorm
    padding: str = "same"
    conv_bias: bool = True
    upsampling: str = "nearest"
    downsampling: str = "max"

    @nn.compact
    def __call__(self, x: Array, hw: tuple[int, int], train: bool) -> Array:
        """[B, H, W, C] -> [B, *hw, width]; no convolution if C is already `width`."""
        if x.shape[-1] != self.width:
            x = Conv(self.width, use_bias=self.conv_bias, name="conv")(x)
            x = self.norm(name="bn")(x, train)
        if x.shape[1] > hw[0] or x.shape[2] > hw[1]:
            if self.downsampling == "bilinear":
                return resize_bilinear(x, hw)
            stride = max((s - 1) // t + 1 for s, t in zip(x.shape[1:3], hw, strict=True))
            x = max_pool(x, window=stride + 1, stride=stride, padding=self.padding)
        return x if x.shape[1:3] == hw else UPSAMPLINGS[self.upsampling](x, hw)


class Cell(nn.Module):
    """One pass over the graph. A node: resample, fuse, activation, separable 3x3, batch norm.

    `graphs.OPERATIONS` has the kinds of nodes that skip some of this.

    Attributes:
        graph: its nodes.
        width: channels of every node.
        fusion: default fusion of the nodes, key of `fusion.NORMALIZERS` or a function.
        activation: elementwise function.
        resample: makes a `Resample`.
        conv: makes a node's convolution.
        norm: makes a normalisation layer.
    """

    graph: Graph
    width: int
    fusion: str | Callable[[Array], Array]
    activation: Activation
    resample: Layer
    conv: Layer
    norm: Layer

    @nn.compact
    def __call__(self, features: dict[int, Array | None], train: bool) -> dict[int, Array]:
        """{level: [B, H_l, W_l, C_l]} -> {level: [B, H_l, W_l, width]}.

        A level that no node reads may be None. A level without a node passes through, with a 1x1
        convolution if it does not have the width.
        """
        levels, sizes = sorted(features), {}
        for level in levels:
            x = features[level]
            sizes[level] = halved(sizes[level - 1]) if x is None else x.shape[1:3]
        values = [features[level] for level in levels]
        for n, node in enumerate(self.graph):
            values.append(self._node(n, node, values, levels, sizes[node.level], train))
        ids = output_ids(self.graph, levels[0], levels[-1])
        outputs = {level: values[i] for level, i in zip(levels, ids, strict=True)}
        for level, x in outputs.items():
            if x.shape[-1] != self.width:
                outputs[level] = self.resample(name=f"level_{level}")(x, sizes[level], train)
        return outputs

    def _node(
        self,
        n: int,
        node: Node,
        values: list[Array | None],
        levels: list[int],
        hw: tuple[int, int],
        train: bool,
    ) -> Array:
        stride = 2 if "stride" in node.operation else 1
        if stride == 2:
            (x,) = (values[i] for i in node.inputs)
        else:
            inputs = [
                self.resample(name=f"node_{n}_edge_{i}")(values[i], hw, train) for i in node.inputs
            ]
            if node.fusion == "attention":
                first, second = (
                    level_of(self.graph, i, levels[0], levels[-1]) for i in node.inputs
                )
                x = global_attention(*(inputs if first <= second else inputs[::-1]))
            else:
                x = Fusion(node.fusion or self.fusion, name=f"node_{n}_fusion")(inputs)
        if node.operation == "merge":
            return x
        if node.operation.startswith("act_"):
            x = self.activation(x)
        x = self.conv(stride=stride, name=f"node_{n}_conv")(x)
        return self.norm(name=f"node_{n}_bn")(x, train)


class FeatureNetwork(nn.Module):
    """Extra coarse levels, then `repeats` cells of one graph.

    Attributes:
        graph: nodes over levels min_level .. max_level.
        repeats: number of cells.
        width: channels of every node.
        max_level: coarsest level; levels above the backbone's are downsampled from the one below,
            the first of them after a 1x1 convolution.
        fusion: a key of `fusion.NORMALIZERS`, or a function of weights.
        norm: makes a normalisation layer, see `layers.BatchNorm`.
        activation: elementwise function.
        padding: padding of strided operations, key of `convolution.PADDINGS`.
        conv_bias: whether convolutions, all followed by a batch norm, have a bias.
        upsampling: key of `UPSAMPLINGS`.
        downsampling: one of `DOWNSAMPLINGS`.
        separable: False makes the nodes' convolutions ordinary 3x3 ones.
        remat: recompute every cell in the backward pass instead of storing its intermediates.
    """

    graph: Graph
    repeats: int
    width: int
    max_level: int = 7
    fusion: str | Callable[[Array], Array] = "fast"
    norm: Layer = BatchNorm
    activation: Activation = nn.swish
    padding: str = "same"
    conv_bias: bool = True
    upsampling: str = "nearest"
    downsampling: str = "max"
    separable: bool = True
    remat: bool = False

    @nn.compact
    def __call__(self, features: dict[int, Array], train: bool = False) -> dict[int, Array]:
        """{level: [B, H_l, W_l, C_l]} of the backbone -> {level: [B, H_l, W_l, width]}."""
        features = dict(features)
        resample = partial(
            Resample,
            self.width,
            norm=self.norm,
            padding=self.padding,
            conv_bias=self.conv_bias,
            upsampling=self.upsampling,
            downsampling=self.downsampling,
        )
        last_read = self._last_level_read(min(features))
        for level in range(max(features) + 1, self.max_level + 1):
            if level > last_read:
                features[level] = None
                continue
            below = features[level - 1]
            extra = resample(name=f"level_{level}")
            features[level] = extra(below, halved(below.shape[1:3]), train)
        conv = partial(
            SeparableConv,
            self.width,
            use_bias=self.conv_bias,
            separable=self.separable,
            padding=self.padding,
        )
        cell = partial(
            recomputed(Cell, self.remat),
            self.graph,
            self.width,
            self.fusion,
            self.activation,
            resample=resample,
            conv=conv,
            norm=self.norm,
        )
        for i in range(self.repeats):
            features = cell(name=f"cell_{i}")(features, train)
        return features

    def _last_level_read(self, min_level: int) -> int:
        """Return the coarsest level whose input the graph reads or passes through."""
        count = self.max_level - min_level + 1
        used = {i for node in self.graph for i in node.inputs}
        used |= set(output_ids(self.graph, min_level, self.max_level))
        return min_level + max(i for i in used if i < count)


def make_feature_network(
    network: str | Graph | nn.Module | type[nn.Module], **settings: Any
) -> nn.Module:
    """Return the module for `EfficientDet.feature_network`, named "feature_network".

    Args:
        network: as `networks.network_graph` takes it.
        **settings: attributes of `FeatureNetwork`, and min_level. A custom class gets those that it
            has; a module is used as it is.
    """
    network = load_code(network) if is_code(network) else network
    if isinstance(network, nn.Module):
        return network
    if isinstance(network, type):
        return call_with_known(network, settings, name="feature_network")
    graph = network_graph(network, settings.pop("min_level"), settings["max_level"])
    return FeatureNetwork(graph, **settings, name="feature_network")


def halved(hw: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the next coarser level."""
    return tuple(-(-size // 2) for size in hw)
