"""Class and box heads (paper section 3.3): one network each, shared by all levels.

Convolutions are shared; every level has its own batch norm after each of them.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from bifpn_jax.models.initializers import Constant, head_depthwise_init, head_init
from bifpn_jax.models.layers import (
    BATCH_NORM_MOMENTUM,
    BatchNorm,
    Conv,
    DepthwiseConv,
    SeparableConv,
)

Array = jax.Array

# Every anchor starts as an object of a class with probability 0.01 (focal loss, arXiv 1708.02002).
CLASS_PRIOR_BIAS = -math.log((1 - 0.01) / 0.01)


class Predictor(nn.Module):
    """A separable 3x3 convolution with bias over all levels.

    Its 1x1 part is one matrix product of the positions of all levels, not one per level whose wide
    results would have to be copied together.

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
        pointwise = Conv(self.features, is_output=True, name="pointwise", **settings)
        return pointwise(rows[:, :, None])[:, :, 0]


def _joined(maps: Sequence[Array]) -> Array:
    return jnp.concatenate([x.reshape(x.shape[0], -1, x.shape[-1]) for x in maps], axis=1)


class Head(nn.Module):
    """`repeats` separable 3x3 convolutions with batch norm and activation, then a predictor.

    All convolutions have stride 1, where every padding is the same.

    Attributes:
        outputs: channels of the predictor: anchors per location times values per anchor.
        repeats: convolutions before the predictor.
        width: their channels.
        activation: a key of `layers.ACTIVATIONS`.
        output_bias: initial value of the predictor's bias.
        axis_name: mapped axis for batch statistics, or None.
        momentum: of the running batch statistics.
        conv_bias: bias of the convolutions before a batch norm; the predictor always has one.
        separable: False makes all convolutions ordinary 3x3 ones, as RetinaNet's are.
        batch_norm_group: replicas that share batch statistics, 0 for all.
    """

    outputs: int
    repeats: int
    width: int
    activation: str = "swish"
    output_bias: float = 0.0
    axis_name: str | None = None
    momentum: float = BATCH_NORM_MOMENTUM
    conv_bias: bool = True
    separable: bool = True
    batch_norm_group: int = 0

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
                norm = BatchNorm(
                    self.axis_name,
                    self.momentum,
                    activation=self.activation,
                    group=self.batch_norm_group,
                    name=f"bn_{i}_level_{level}",
                )
                x = norm(conv(x), train)
            maps.append(x)
        return predictor(maps)
