"""The layers of which every part of the detector is built, with the published settings.

Parameters are float32; a layer computes in the dtype of its input. Batch normalisation has epsilon
1e-3 and, unless a short run asks for less, momentum 0.99 everywhere; only PyTorch's own backbones
have another epsilon.
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
from bifpn_jax.ops.batch_norm import affine, batch_normalize

Array = jax.Array

BATCH_NORM_EPSILON = 1e-3
BATCH_NORM_MOMENTUM = 0.99

Activation = Callable[[Array], Array]
# Makes a layer of `name=` and the settings that are not bound yet: a module class, or a partial of
# one.
Layer = Callable[..., Callable[..., Array]]

ACTIVATIONS = Parts("activation", {"swish": nn.swish, "relu6": nn.relu6, "relu": nn.relu})


def bind_norm(kind: Any, **settings: Any) -> Layer:
    """What makes the normalisation layers of a network, with the settings that all of them share.

    Args:
        kind: key of `NORMS`; a module class, called with (x [B, H, W, C], train), or what makes
            one; also as "FILE.py:NAME".
        **settings: attributes of `BatchNorm`; a layer of one's own gets those that it has.

    Returns:
        (name=, activation=None) -> a layer. An activation follows the layer where it has no
        attribute `activation` to apply one by itself.
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
    """The module class; if wanted, it computes its inside once more in the backward pass.

    So nothing but its inputs is kept between the passes. Its call takes (inputs, train).
    """
    return nn.remat(module, static_argnums=(2,)) if wanted else module


class Conv(nn.Module):
    """Convolution; kernel [k, k, Cin, features].

    Attributes:
        features: output channels.
        kernel_size: side of the square kernel.
        stride: the same in both directions.
        use_bias: adds a vector per output channel.
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
    """Depthwise 3x3, then pointwise, with bias unless told otherwise, nothing between.

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
    """Batch normalisation over B, H, W, and over replicas where `axis_name` is given.

    Differs from `flax.linen.BatchNorm` in what it stores: the running variance is the unbiased one
    (n / (n - 1) times the batch's), as in the published TensorFlow models. At level 7, where a
    replica may see only a few positions, that is not a small difference.

    Attributes:
        axis_name: name of the mapped axis over which batch statistics are averaged, or None.
        momentum: how much of the running statistics a training step keeps.
        epsilon: is added to the variance.
        activation: applied to the normalised array; None for none. Its input is not kept for the
            backward pass.
        group: so many neighbouring replicas have statistics of their own; 0 for all together.
            Running statistics then differ between groups until the step averages them.
        scale_init, bias_init: initialisers.
        mean_init, var_init: of the running statistics.
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
        """Normalises [B, H, W, C] with batch statistics if `train`, else with running ones."""
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
        axis_name = None if self.is_initializing() else self.axis_name
        y, mean, var = batch_normalize(
            x, scale, bias, self.epsilon, axis_name, self.activation, self.group
        )
        if self.is_initializing():
            return y
        count = x.size // c
        if self.axis_name is not None:
            count *= self.group or lax.axis_size(self.axis_name)
        running_mean.value = _moved(running_mean.value, mean, self.momentum, 1.0)
        running_var.value = _moved(running_var.value, var, self.momentum, count / max(count - 1, 1))
        return y


NORMS = Parts("norm", {"batch_norm": BatchNorm})


@partial(jax.jit, static_argnums=(2, 3))
def _moved(running: Array, value: Array, keep: float, factor: float) -> Array:
    """A running statistic after a batch with the statistic `factor * value`."""
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

    The draw is made for the global batch and each replica takes its part, so that training does not
    depend on how many devices share the batch. Needs the rng stream "stochastic_depth".

    Attributes:
        survival_prob: probability in (0, 1] of keeping the branch; kept ones are divided by it.
        axis_name: name of the mapped axis that splits the batch, or None.
    """

    survival_prob: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        """[B, H, W, C], unchanged unless `train`."""
        if not train or self.survival_prob >= 1.0 or self.is_initializing():
            return x
        batch = x.shape[0]
        replicas = 1 if self.axis_name is None else lax.axis_size(self.axis_name)
        rng = self.make_rng("stochastic_depth")
        keep = jax.random.bernoulli(rng, self.survival_prob, (replicas * batch, 1, 1, 1))
        if self.axis_name is not None:
            start = lax.axis_index(self.axis_name) * batch
            keep = lax.dynamic_slice_in_dim(keep, start, batch)
        return x * keep.astype(x.dtype) / self.survival_prob
