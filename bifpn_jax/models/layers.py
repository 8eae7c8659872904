"""The layers that all parts of the detector are built from, with the published settings.

Parameters are float32; a layer computes in the dtype of its input. Settings that a whole network
shares, such as those of its normalisation, are bound once, by `functools.partial`, and passed down
as a constructor of layers.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from bifpn_jax.models.initializers import (
    Initializer,
    backbone_init,
    glorot_init,
    ones_init,
    zeros_init,
)
from bifpn_jax.named_parts import Parts, bind_known
from bifpn_jax.ops import convolution
from bifpn_jax.ops.batch_norm import affine, batch_normalize, bessel_correction
from bifpn_jax.ops.dropping import kept_images

Array = jax.Array

BATCH_NORM_EPSILON = 1e-3
BATCH_NORM_MOMENTUM = 0.99

Activation = Callable[[Array], Array]
# Makes a layer from `name=` and the settings that are not yet bound: a module class, or a partial
# of one.
Layer = Callable[..., Callable[..., Array]]

ACTIVATIONS = Parts("activation", {"swish": nn.swish, "relu6": nn.relu6, "relu": nn.relu})


def bind_norm(kind: Any, **settings: Any) -> Layer:
    """Return a constructor of a network's normalisation layers, with their shared settings bound.

    Args:
        kind: key of `NORMS`; a module class, called with (x [B, H, W, C], train), or a function
            that returns one; also as "FILE.py:NAME".
        **settings: attributes of `BatchNorm`; a custom layer gets those that it has.

    Returns:
        (name=, activation=None) -> a layer. If the layer has no attribute `activation`, the
        activation is applied after it.
    """
    make = NORMS.find(kind)
    bound = bind_known(make, settings)
    if "activation" in inspect.signature(make).parameters:
        return bound

    def norm(*, name: str, activation: Activation | None = None) -> Callable[..., Array]:
        layer = bound(name=name)
        return layer if activation is None else lambda x, train: activation(layer(x, train))

    return norm


def recomputed(module: type[nn.Module], wanted: bool) -> type[nn.Module]:
    """Return the module class, if wanted with its intermediates recomputed in the backward pass.

    Then only its inputs are stored between the passes. It is called with (inputs, train).
    """
    return nn.remat(module, static_argnums=(2,)) if wanted else module


class Conv(nn.Module):
    """Convolution; kernel [k, k, Cin, features].

    Attributes:
        features: output channels.
        kernel_size: side of the square kernel.
        stride: the same in both directions.
        use_bias: whether to add a bias per output channel.
        kernel_init, bias_init: initialisers.
        padding: key of `convolution.PADDINGS`.
    """

    features: int
    kernel_size: int = 1
    stride: int = 1
    use_bias: bool = True
    kernel_init: Initializer = glorot_init
    bias_init: Initializer = zeros_init
    padding: str = "same"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, Cin] -> [B, ceil(H / stride), ceil(W / stride), features]."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(x.dtype)
        y = convolution.conv(x, kernel, stride=self.stride, padding=self.padding)
        if not self.use_bias:
            return y
        bias = self.param("bias", self.bias_init, (self.features,)).astype(x.dtype)
        return y + bias[None, None, None]


class DepthwiseConv(nn.Module):
    """One k x k filter per channel, no bias; kernel [k, k, 1, C]."""

    kernel_size: int
    stride: int = 1
    kernel_init: Initializer = glorot_init
    padding: str = "same"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), C]."""
        shape = (self.kernel_size, self.kernel_size, 1, x.shape[-1])
        kernel = self.param("kernel", self.kernel_init, shape)
        return convolution.depthwise_conv(
            x, kernel.astype(x.dtype), stride=self.stride, padding=self.padding
        )


class SeparableConv(nn.Module):
    """Depthwise 3x3, then pointwise convolution, with nothing between and by default with bias.

    With `separable=False` it is one ordinary 3x3 convolution, with the kernel [3, 3, Cin, features]
    in the layer "full" and the pointwise initialiser.
    """

    features: int
    depthwise_init: Initializer = glorot_init
    pointwise_init: Initializer = glorot_init
    use_bias: bool = True
    separable: bool = True
    stride: int = 1
    padding: str = "same"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), features]."""
        place = {"stride": self.stride, "padding": self.padding}
        if not self.separable:
            return Conv(
                self.features,
                3,
                use_bias=self.use_bias,
                kernel_init=self.pointwise_init,
                name="full",
                **place,
            )(x)
        x = DepthwiseConv(3, kernel_init=self.depthwise_init, name="depthwise", **place)(x)
        return Conv(
            self.features,
            use_bias=self.use_bias,
            kernel_init=self.pointwise_init,
            name="pointwise",
        )(x)


class BatchNorm(nn.Module):
    """Batch normalisation over B, H, W, and over the replicas of a mapped axis.

    Unlike `flax.linen.BatchNorm`, it stores the unbiased running variance (n / (n - 1) times the
    batch's), as in the published TensorFlow models. At level 7, where a replica may see only a few
    positions, the difference is not small.

    Attributes:
        axis_name: name of the mapped axis over which batch statistics are averaged, or None.
        momentum: the share of the running statistics that a training step keeps.
        epsilon: added to the variance.
        activation: applied to the normalised array; None for none. Its input is not stored for the
            backward pass.
        group: number of neighbouring replicas that share statistics; 0 for all. Running statistics
            of groups differ until the step averages them.
        scale_init, bias_init: initialisers.
        mean_init, var_init: initialisers of the running statistics.
    """

    axis_name: str | None = None
    momentum: float = BATCH_NORM_MOMENTUM
    epsilon: float = BATCH_NORM_EPSILON
    activation: Activation | None = None
    group: int = 0
    scale_init: Initializer = ones_init
    bias_init: Initializer = zeros_init
    mean_init: Initializer = zeros_init
    var_init: Initializer = ones_init

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """Normalise [B, H, W, C] with batch statistics if `train`, else with running ones."""
        c = x.shape[-1]
        scale = self.param("scale", self.scale_init, (c,))
        bias = self.param("bias", self.bias_init, (c,))
        running_mean = self.variable("batch_stats", "mean", self.mean_init, None, (c,))
        running_var = self.variable("batch_stats", "var", self.var_init, None, (c,))
        if not train:
            factor = scale * lax.rsqrt(running_var.value + self.epsilon)
            y = affine(x, factor, bias - running_mean.value * factor)
            if self.activation is None:
                return y
            with jax.named_scope("activation"):
                return self.activation(y)
        replicas = None if self.is_initializing() else self.axis_name
        y, mean, var = batch_normalize(
            x, scale, bias, self.epsilon, replicas, self.activation, self.group
        )
        if self.is_initializing():
            return y
        unbiased = bessel_correction(x, replicas, self.group)
        running_mean.value = _moved(running_mean.value, mean, self.momentum, 1.0)
        running_var.value = _moved(running_var.value, var, self.momentum, unbiased)
        return y


NORMS = Parts("norm", {"batch_norm": BatchNorm})


@partial(jax.jit, static_argnums=(2, 3))
def _moved(running: Array, value: Array, keep: float, factor: float) -> Array:
    """Return a running statistic after a batch with the statistic `factor * value`."""
    return keep * running + (1 - keep) * (value * factor)


class SqueezeExcite(nn.Module):
    """Channel gates from the global mean (EfficientNet, arXiv 1905.11946)."""

    squeezed: int
    activation: Activation

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, C] -> a gate [B, 1, 1, C] in (0, 1) for every channel of every image."""
        gate = jnp.mean(x, (1, 2), keepdims=True)
        gate = Conv(self.squeezed, kernel_init=backbone_init, name="reduce")(gate)
        gate = self.activation(gate)
        gate = Conv(x.shape[-1], kernel_init=backbone_init, name="expand")(gate)
        return nn.sigmoid(gate)


class StochasticDepth(nn.Module):
    """Drops a residual branch per image while training (arXiv 1603.09382).

    Needs the rng stream "stochastic_depth".

    Attributes:
        survival_prob: probability in (0, 1] of keeping the branch; kept branches are divided by it.
        axis_name: name of the mapped axis that splits the batch, or None.
    """

    survival_prob: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """[B, H, W, C], unchanged unless `train`."""
        if not train or self.survival_prob >= 1.0 or self.is_initializing():
            return x
        keep = kept_images(
            self.make_rng("stochastic_depth"), self.survival_prob, x.shape[0], self.axis_name
        )
        return x * keep.astype(x.dtype) / self.survival_prob
