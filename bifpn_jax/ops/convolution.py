"""The convolutions and the pooling of EfficientDet, lowered per platform.

Every function takes and returns NHWC arrays. On GPU and TPU the native XLA operations are used.
On CPU, XLA runs some of them as slow generic loops; `cpu_forms` has other forms of those.
The choice is made when a program is lowered (`jax.lax.platform_dependent`), never by querying the
machine.

Outputs have ceil(size / stride) entries per axis with either padding. "same" is TensorFlow's SAME:
if the padding is odd, the extra row or column goes to the end. "symmetric" is PyTorch's
padding=kernel // 2. They differ for strided operations on even sizes.
"""

from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp
from jax import lax

from bifpn_jax.ops import cpu_forms as cpu

Array = jax.Array


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the padding before and after one axis for an output of ceil(size / stride) entries."""
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def symmetric_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """As `same_padding`, but kernel // 2 before, and after it as much as the last output reads."""
    out = -(-size // stride)
    before = kernel // 2
    return before, max((out - 1) * stride + kernel - size - before, 0)


# Up to this many input channels, as in images, a convolution has a special form on CPU.
THIN = 4

PADDINGS = {"same": same_padding, "symmetric": symmetric_padding}


def conv(x: Array, kernel: Array, *, stride: int = 1, padding: str = "same") -> Array:
    """Ordinary convolution.

    Args:
        x: [B, H, W, Cin].
        kernel: [kh, kw, Cin, Cout], of the dtype of `x`.
        stride: the same in both directions.
        padding: key of `PADDINGS`.

    Returns:
        [B, ceil(H / stride), ceil(W / stride), Cout].
    """
    kh, kw, c_in, c_out = kernel.shape
    if kh == kw == stride == 1:
        # On every platform, a matrix product is the fastest form of a 1x1 convolution.
        flat = jnp.dot(x.reshape(-1, c_in), kernel.reshape(c_in, c_out))
        return flat.reshape(*x.shape[:-1], c_out)
    if c_in <= THIN:
        return _thin_conv(stride, padding)(x, kernel)
    return _native_conv(x, kernel, stride=stride, padding=padding)


def gated_conv(x: Array, gate: Array, kernel: Array) -> Array:
    """1x1 convolution of `x * gate`.

    Args:
        x: [B, H, W, Cin].
        gate: [B, 1, 1, Cin], of the dtype of `x`.
        kernel: [1, 1, Cin, Cout], of the dtype of `x`.

    Returns:
        [B, H, W, Cout].
    """
    return _gated_conv(x, gate, kernel)


def biased_conv(x: Array, kernel: Array, bias: Array) -> Array:
    """1x1 convolution plus a bias, for results that no fusible operation reads next.

    Args:
        x: [B, H, W, Cin].
        kernel: [1, 1, Cin, Cout], of the dtype of `x`.
        bias: [Cout], of the dtype of `x`.

    Returns:
        [B, H, W, Cout].
    """
    return _biased_conv(x, kernel, bias)


def depthwise_conv(x: Array, kernel: Array, *, stride: int = 1, padding: str = "same") -> Array:
    """Depthwise convolution: every channel is filtered by its own kernel.

    Args:
        x: [B, H, W, C].
        kernel: [kh, kw, 1, C], of the dtype of `x`.
        stride: 1 or more, the same in both directions.
        padding: key of `PADDINGS`.

    Returns:
        [B, ceil(H / stride), ceil(W / stride), C].
    """
    return _depthwise(stride, padding)(x, kernel)


def max_pool(x: Array, *, window: int, stride: int, padding: str = "same") -> Array:
    """Max-pooling [B, H, W, C] -> [B, ceil(H / stride), ceil(W / stride), C]; padding is -inf."""
    return _max_pool(window, stride, padding)(x)


def _per_platform(
    on_cpu: Callable[..., Array], otherwise: Callable[..., Array]
) -> Callable[..., Array]:
    """Return one differentiable function with two implementations, chosen when it is lowered.

    Differentiable in reverse mode only (`jax.grad`, `jax.vjp`), as custom gradients are.
    """

    @jax.custom_vjp
    def call(*args: Array) -> Array:
        return lax.platform_dependent(*args, cpu=on_cpu, default=otherwise)

    def forward(*args: Array) -> tuple[Array, tuple[Array, ...]]:
        return call(*args), args

    def pull_back(f: Callable[..., Array]) -> Callable[..., tuple[Array, ...]]:
        return lambda cotangent, *args: jax.vjp(f, *args)[1](cotangent)

    # Created once, for the same reason as `_depthwise`.
    backward_on_cpu, backward_otherwise = pull_back(on_cpu), pull_back(otherwise)

    def backward(args: tuple[Array, ...], cotangent: Array) -> tuple[Array, ...]:
        return lax.platform_dependent(
            cotangent, *args, cpu=backward_on_cpu, default=backward_otherwise
        )

    call.defvjp(forward, backward)
    return call


def _pads(x: Array, kernel_hw: tuple[int, int], stride: int, padding: str) -> cpu.Pads:
    return tuple(
        PADDINGS[padding](s, k, stride) for s, k in zip(x.shape[1:3], kernel_hw, strict=True)
    )


def _native_conv(x: Array, kernel: Array, *, stride: int, padding: str, groups: int = 1) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        _pads(x, kernel.shape[:2], stride, padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _native_gated_conv(x: Array, gate: Array, kernel: Array) -> Array:
    return conv(x * gate, kernel)


_gated_conv = _per_platform(cpu.gated_conv, _native_gated_conv)


def _native_biased_conv(x: Array, kernel: Array, bias: Array) -> Array:
    return conv(x, kernel) + bias[None, None, None]


_biased_conv = _per_platform(cpu.biased_conv, _native_biased_conv)


def _native_depthwise(x: Array, kernel: Array, *, stride: int, padding: str) -> Array:
    return _native_conv(x, kernel, stride=stride, padding=padding, groups=x.shape[-1])


def _native_max_pool(x: Array, *, window: int, stride: int, padding: str) -> Array:
    pads = [(0, 0), *_pads(x, (window, window), stride, padding), (0, 0)]
    return lax.reduce_window(
        x, -jnp.inf, lax.max, (1, window, window, 1), (1, stride, stride, 1), pads
    )


# Cached, because JAX traces the same function with the same shapes only once.
@cache
def _thin_conv(stride: int, padding: str) -> Callable[[Array, Array], Array]:
    def on_cpu(x: Array, kernel: Array) -> Array:
        return cpu.thin_conv(x, kernel, stride, _pads(x, kernel.shape[:2], stride, padding))

    return _per_platform(on_cpu, partial(_native_conv, stride=stride, padding=padding))


@cache
def _depthwise(stride: int, padding: str) -> Callable[[Array, Array], Array]:
    def on_cpu(x: Array, kernel: Array) -> Array:
        return cpu.depthwise_conv(x, kernel, stride, _pads(x, kernel.shape[:2], stride, padding))

    return _per_platform(on_cpu, partial(_native_depthwise, stride=stride, padding=padding))


@cache
def _max_pool(window: int, stride: int, padding: str) -> Callable[[Array], Array]:
    native = partial(_native_max_pool, window=window, stride=stride, padding=padding)
    if window > 3:  # A pool from P3 to P7 would mean 289 slices to compile.
        return native

    def on_cpu(x: Array) -> Array:
        return cpu.max_pool(x, window, stride, _pads(x, (window, window), stride, padding))

    return _per_platform(on_cpu, native)
