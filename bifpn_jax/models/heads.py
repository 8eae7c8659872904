"""Class and box heads (paper section 3.3): one network each, shared by all levels.

Convolutions are shared; every level has its own batch norm after each of them.
"""

import math

import flax.linen as nn
import jax

from bifpn_jax.models.layers import (
    ACTIVATIONS,
    BATCH_NORM_MOMENTUM,
    BatchNorm,
    SeparableConv,
    head_depthwise_init,
    head_init,
)

Array = jax.Array

# Every anchor starts as an object of a class with probability 0.01 (focal loss, arXiv 1708.02002).
CLASS_PRIOR_BIAS = -math.log((1 - 0.01) / 0.01)


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

    @nn.compact
    def __call__(self, features: dict[int, Array], train: bool = False) -> dict[int, Array]:
        """{level: [B, H_l, W_l, width]} -> {level: [B, H_l, W_l, outputs]}."""
        act = ACTIVATIONS[self.activation]
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
        predictor = SeparableConv(
            self.outputs,
            head_depthwise_init,
            head_init,
            nn.initializers.constant(self.output_bias),
            separable=self.separable,
            name="predictor",
        )
        outputs = {}
        for level, x in sorted(features.items()):
            for i, conv in enumerate(convs):
                bn = BatchNorm(self.axis_name, self.momentum, name=f"bn_{i}_level_{level}")
                x = act(bn(conv(x), train))
            outputs[level] = predictor(x)
        return outputs
