"""Class and box heads (paper section 3.3): one network each, shared by all levels.

Convolutions are shared; every level has its own batch norm after each of them.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from bifpn_jax.models.initializers import Constant, Initializer, head_depthwise_init, head_init
from bifpn_jax.models.layers import (
    Activation,
    BatchNorm,
    Conv,
    DepthwiseConv,
    Layer,
    SeparableConv,
)
from bifpn_jax.ops import convolution

Array = jax.Array

# Every anchor starts as an object of a class with probability 0.01 (focal loss, arXiv 1708.02002).
CLASS_PRIOR_BIAS = -math.log((1 - 0.01) / 0.01)


class Predictor(nn.Module):
    """A separable 3x3 convolution with bias over all levels.

    Its 1x1 part is one matrix product over the positions of all levels: with one per level, the
    wide results would have to be concatenated.

    Attributes:
        features: output channels.
        output_bias: initial value of the bias.
        separable: False makes it an ordinary 3x3 convolution.
    """

    features: int
    output_bias: float = 0.0
    separable: bool = True

    @nn.compact
    def __call__(self, maps: Sequence[Array]) -> Array:
        """[B, H_l, W_l, C] of each level -> [B, sum of H_l W_l, features]."""
        settings = {
            "kernel_init": head_init,
            "bias_init": Constant(self.output_bias),
        }
        if not self.separable:
            full = Conv(self.features, 3, name="full", **settings)
            return _joined([full(x) for x in maps])
        depthwise = DepthwiseConv(3, kernel_init=head_depthwise_init, name="depthwise")
        rows = _joined([depthwise(x) for x in maps])
        return _Pointwise(self.features, name="pointwise", **settings)(rows)


class _Pointwise(nn.Module):
    """1x1 convolution with bias on rows [B, N, C], see `convolution.biased_conv`."""

    features: int
    kernel_init: Initializer
    bias_init: Initializer

    @nn.compact
    def __call__(self, rows: Array) -> Array:
        kernel = self.param("kernel", self.kernel_init, (1, 1, rows.shape[-1], self.features))
        bias = self.param("bias", self.bias_init, (self.features,))
        kernel, bias = kernel.astype(rows.dtype), bias.astype(rows.dtype)
        return convolution.biased_conv(rows[:, :, None], kernel, bias)[:, :, 0]


def _joined(maps: Sequence[Array]) -> Array:
    return jnp.concatenate([x.reshape(x.shape[0], -1, x.shape[-1]) for x in maps], axis=1)


class Head(nn.Module):
    """`repeats` separable 3x3 convolutions with batch norm and activation, then a predictor.

    All convolutions have stride 1, where every padding is the same.

    Attributes:
        outputs: channels of the predictor: anchors per location times values per anchor.
        repeats: convolutions before the predictor.
        width: their channels.
        norm: makes a normalisation layer, see `layers.BatchNorm`.
        activation: elementwise function.
        output_bias: initial value of the predictor's bias.
        conv_bias: bias of the convolutions before a batch norm; the predictor always has one.
        separable: False makes all convolutions ordinary 3x3 ones, as RetinaNet's are.
    """

    outputs: int
    repeats: int
    width: int
    norm: Layer = BatchNorm
    activation: Activation = nn.swish
    output_bias: float = 0.0
    conv_bias: bool = True
    separable: bool = True

    @nn.compact
    def __call__(self, features: dict[int, Array], train: bool = False) -> Array:
        """{level: [B, H_l, W_l, width]} -> [B, positions, outputs].

        Positions are ordered by level, y, x, the finest level first.
        """
        convs = [
            SeparableConv(
                self.width,
                head_depthwise_init,
                head_init,
                use_bias=self.conv_bias,
                separable=self.separable,
                name=f"conv_{i}",
            )
            for i in range(self.repeats)
        ]
        predictor = Predictor(self.outputs, self.output_bias, self.separable, name="predictor")
        maps = []
        for level, x in sorted(features.items()):
            for i, conv in enumerate(convs):
                norm = self.norm(activation=self.activation, name=f"bn_{i}_level_{level}")
                x = norm(conv(x), train)
            maps.append(x)
        return predictor(maps)
