"""Batch normalisation with batch statistics, as a pure function with a custom gradient.

Only the input is stored for the backward pass; the activation's input is recomputed from it. Input
and cotangent are read twice: for two sums per channel, and for the input's gradient, which is
linear in both: `a * cotangent + b * x + c` per channel.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from bifpn_jax.errors import UserError

Array = jax.Array
Activation = Callable[[Array], Array]

_AXES = (0, 1, 2)


@partial(jax.jit, static_argnums=(3, 4, 5, 6))
def batch_normalize(
    x: Array,
    scale: Array,
    bias: Array,
    epsilon: float,
    axis_name: str | None = None,
    activation: Activation | None = None,
    group: int = 0,
) -> tuple[Array, Array, Array]:
    """Normalise over B, H and W, and over replicas if `axis_name` is given, then activate.

    Args:
        x: [B, H, W, C] of any dtype; statistics and arithmetic are float32.
        scale: [C] float32.
        bias: [C] float32.
        epsilon: added to the variance.
        axis_name: mapped axis over which statistics are averaged, or None.
        activation: elementwise function of the normalised array, or None.
        group: number of neighbouring replicas that share statistics; 0 for all.

    Returns:
        The array in the dtype of `x`, and mean and biased variance [C] of the whole batch, or of
        the group's part of it. No gradient flows through mean and variance.

    Raises:
        UserError: the replicas cannot be split into such groups.
    """
    return _normalize(x, scale, bias, epsilon, axis_name, activation, group)


def bessel_correction(x: Array, axis_name: str | None = None, group: int = 0) -> float:
    """Return n / (n - 1) for the n values per channel, which makes a biased variance unbiased."""
    count = x.size // x.shape[-1]
    if axis_name is not None:
        count *= group or lax.axis_size(axis_name)
    return count / max(count - 1, 1)


def replica_groups(replicas: int, group: int) -> list[list[int]]:
    """Return groups of neighbouring replicas: 4 in groups of 2 are [[0, 1], [2, 3]].

    Raises:
        UserError: `group` does not divide `replicas`.
    """
    if group < 1 or replicas % group:
        raise UserError(
            f"batch norms over groups of {group} cannot split {replicas} devices: set "
            "batch_norm_group=0 for all devices, or to a divisor."
        )
    return [list(range(first, first + group)) for first in range(0, replicas, group)]


def affine(x: Array, factor: Array, offset: Array) -> Array:
    """Scale and shift [B, H, W, C] per channel in float32; the result has the dtype of `x`."""
    y = x.astype(jnp.float32) * factor[None, None, None] + offset[None, None, None]
    return y.astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5, 6))
def _normalize(
    x: Array,
    scale: Array,
    bias: Array,
    epsilon: float,
    axis_name: str | None,
    activation: Activation | None,
    group: int,
) -> tuple[Array, Array, Array]:
    return _forward(x, scale, bias, epsilon, axis_name, activation, group)[0]


def _forward(
    x: Array,
    scale: Array,
    bias: Array,
    epsilon: float,
    axis_name: str | None,
    activation: Activation | None,
    group: int,
) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    x32 = x.astype(jnp.float32)
    mean, mean_of_squares = jnp.mean(x32, _AXES), jnp.mean(jnp.square(x32), _AXES)
    mean, mean_of_squares = _over_replicas((mean, mean_of_squares), axis_name, group)
    var = jnp.maximum(mean_of_squares - jnp.square(mean), 0.0)
    inverse = lax.rsqrt(var + epsilon)
    factor = scale * inverse
    offset = bias - mean * factor
    y = affine(x, factor, offset)
    y = y if activation is None else activation(y)
    return (y, mean, var), (x, mean, inverse, factor, offset)


def _backward(
    epsilon: float,
    axis_name: str | None,
    activation: Activation | None,
    group: int,
    saved: tuple[Array, ...],
    cotangents: tuple[Array, Array, Array],
) -> tuple[Array, Array, Array]:
    x, mean, inverse, factor, offset = saved
    g = cotangents[0]
    if activation is not None:
        # The barrier keeps the compiler from storing results of the forward pass to reuse them.
        x = lax.optimization_barrier(x)
        (g,) = jax.vjp(activation, affine(x, factor, offset))[1](g)
    g = g.astype(jnp.float32)
    x32 = x.astype(jnp.float32)
    count = x.size // x.shape[-1]
    mean_g, mean_gx = jnp.mean(g, _AXES), jnp.mean(g * x32, _AXES)
    of_scale = count * (mean_gx - mean * mean_g) * inverse
    of_bias = count * mean_g
    mean_g, mean_gx = _over_replicas((mean_g, mean_gx), axis_name, group)
    b = -factor * jnp.square(inverse) * (mean_gx - mean * mean_g)
    c = -factor * mean_g - b * mean
    of_x = g * factor[None, None, None] + x32 * b[None, None, None] + c[None, None, None]
    return of_x.astype(x.dtype), of_scale, of_bias


_normalize.defvjp(_forward, _backward)


def _over_replicas(
    means: tuple[Array, ...], axis_name: str | None, group: int
) -> tuple[Array, ...]:
    if axis_name is None or group == 1:
        return means
    groups = replica_groups(lax.axis_size(axis_name), group) if group else None
    return lax.pmean(means, axis_name, axis_index_groups=groups)
