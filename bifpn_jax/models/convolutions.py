"""The convolutions and the pooling that EfficientDet is made of, lowered per platform.

Every function takes and returns NHWC arrays. On GPU and TPU the native XLA operations are right.
On CPU, XLA runs depthwise convolutions as a slow generic loop, so there they are written as a sum
of shifted slices, which fuses into one vectorised loop, with a gradient of the same form. The
choice is made when a program is lowered (`jax.lax.platform_dependent`), never by asking what the
machine is.

Outputs have ceil(size / stride) entries per axis with either padding. "same" is TensorFlow's SAME:
where the padding is odd the extra row or column goes to the end. "symmetric" is what PyTorch calls
padding=kernel // 2. They differ where a stride meets an even size.
"""

from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after one spatial axis for an output of ceil(size / stride) entries."""
    out = -(-size // stride)
    total = max((out - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def symmetric_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """As `same_padding`, with kernel // 2 before, and after as much as the last output reads."""
    out = -(-size // stride)
    before = kernel // 2
    return before, max((out - 1) * stride + kernel - size - before, 0)


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
        # A matrix product, on every platform, is what a 1x1 convolution becomes at best.
        flat = jnp.dot(x.reshape(-1, c_in), kernel.reshape(c_in, c_out))
        return flat.reshape(*x.shape[:-1], c_out)
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        _pads(x, (kh, kw), stride, padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


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
    """One differentiable function with two implementations, chosen when it is lowered.

    Differentiable in reverse mode only (`jax.grad`, `jax.vjp`), as custom gradients are.
    """

    @jax.custom_vjp
    def call(*args: Array) -> Array:
        return lax.platform_dependent(*args, cpu=on_cpu, default=otherwise)

    def forward(*args: Array) -> tuple[Array, tuple[Array, ...]]:
        return call(*args), args

    def pull_back(f: Callable[..., Array]) -> Callable[..., tuple[Array, ...]]:
        return lambda cotangent, *args: jax.vjp(f, *args)[1](cotangent)

    # Made once, for the same reason as `_depthwise`.
    backward_on_cpu, backward_otherwise = pull_back(on_cpu), pull_back(otherwise)

    def backward(args: tuple[Array, ...], cotangent: Array) -> tuple[Array, ...]:
        return lax.platform_dependent(
            cotangent, *args, cpu=backward_on_cpu, default=backward_otherwise
        )

    call.defvjp(forward, backward)
    return call


def _pads(x: Array, kernel_hw: tuple[int, int], stride: int, padding: str) -> list[tuple[int, int]]:
    return [PADDINGS[padding](s, k, stride) for s, k in zip(x.shape[1:3], kernel_hw, strict=True)]


def _window(x: Array, i: int, j: int, hw: tuple[int, int], stride: int) -> Array:
    """The entries of padded `x` that kernel tap (i, j) sees, one per output position."""
    b, _, _, c = x.shape
    stop = (b, i + (hw[0] - 1) * stride + 1, j + (hw[1] - 1) * stride + 1, c)
    return lax.slice(x, (0, i, j, 0), stop, (1, stride, stride, 1))


def _output_hw(x: Array, stride: int) -> tuple[int, int]:
    return -(-x.shape[1] // stride), -(-x.shape[2] // stride)


def _native_depthwise(x: Array, kernel: Array, *, stride: int, padding: str) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        _pads(x, kernel.shape[:2], stride, padding),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _shifted_sum(x: Array, kernel: Array, hw: tuple[int, int], stride: int) -> Array:
    """Valid depthwise convolution of padded `x`, accumulated in float32."""
    kh, kw = kernel.shape[:2]
    weights = kernel.astype(jnp.float32)  # [kh, kw, 1, C]
    taps = [
        _window(x, i, j, hw, stride).astype(jnp.float32) * weights[i, j][None, None]
        for i in range(kh)
        for j in range(kw)
    ]
    return sum(taps[1:], taps[0]).astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _shifted_depthwise(x: Array, kernel: Array, stride: int, padding: str) -> Array:
    pads = _pads(x, kernel.shape[:2], stride, padding)
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    return _shifted_sum(padded, kernel, _output_hw(x, stride), stride)


def _shifted_forward(
    x: Array, kernel: Array, stride: int, padding: str
) -> tuple[Array, tuple[Array, Array]]:
    return _shifted_depthwise(x, kernel, stride, padding), (x, kernel)


def _shifted_backward(
    stride: int, padding: str, saved: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    x, kernel = saved
    pads = _pads(x, kernel.shape[:2], stride, padding)
    of_x = _input_gradient(g, kernel, x.shape[1:3], stride, [before for before, _ in pads])
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    return of_x, _kernel_gradient(padded, g, kernel, stride)


_shifted_depthwise.defvjp(_shifted_forward, _shifted_backward)


def _input_gradient(
    g: Array, kernel: Array, hw: tuple[int, int], stride: int, before: list[int]
) -> Array:
    """Gradient of a depthwise convolution for its input of size `hw`, padded with `before`.

    Input rows y with the same y mod stride are touched by the same kernel rows, so each of the
    stride x stride phases is a stride-1 convolution of `g` with a part of the flipped kernel.
    """
    phase_hw = tuple(-(-s // stride) for s in hw)
    phases = []
    for p in range(stride):
        row = []
        for q in range(stride):
            # The first kernel tap that reaches this phase, per axis; the others follow by stride.
            first = [(r + b) % stride for r, b in zip((p, q), before, strict=True)]
            part = kernel[first[0] :: stride, first[1] :: stride]
            pads = []
            for axis, r in enumerate((p, q)):
                taps = part.shape[axis]
                newest = (r + before[axis] - first[axis]) // stride
                low = taps - 1 - newest
                pads.append((low, phase_hw[axis] + taps - 1 - low - g.shape[1 + axis], 0))
            if 0 in part.shape:
                row.append(jnp.zeros((g.shape[0], *phase_hw, g.shape[3]), g.dtype))
                continue
            padded = lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
            row.append(_shifted_sum(padded, part[::-1, ::-1], phase_hw, 1))
        phases.append(row)
    if stride == 1:
        return phases[0][0]
    b, c = g.shape[0], g.shape[3]
    rows = [jnp.stack(row, axis=3) for row in phases]  # [B, h, w, stride, C] each
    full = jnp.stack(rows, axis=2).reshape(b, phase_hw[0] * stride, phase_hw[1] * stride, c)
    return full[:, : hw[0], : hw[1]]


def _kernel_gradient(padded: Array, g: Array, kernel: Array, stride: int) -> Array:
    """Gradient of a depthwise convolution with respect to its kernel, a few rows at a time.

    All kh x kw sums over those rows are one reduction, which reads them once, from the cache.
    """
    kh, kw = kernel.shape[:2]
    _, out_h, out_w, c = g.shape
    rows = next(n for n in (4, 3, 2, 1) if out_h % n == 0) if out_h > 8 else out_h

    def add_rows(step: Array | int, total: Array) -> Array:
        g_rows = lax.dynamic_slice_in_dim(g, step * rows, rows, axis=1).astype(jnp.float32)
        seen = (rows - 1) * stride + kh
        x_rows = lax.dynamic_slice_in_dim(padded, step * rows * stride, seen, axis=1)
        products = tuple(
            _window(x_rows, i, j, (rows, out_w), stride).astype(jnp.float32) * g_rows
            for i in range(kh)
            for j in range(kw)
        )
        zeros = (jnp.zeros((), jnp.float32),) * (kh * kw)
        return total + jnp.stack(lax.reduce(products, zeros, _add_each, (0, 1, 2)))

    total = jnp.zeros((kh * kw, c), jnp.float32)
    steps = out_h // rows
    total = add_rows(0, total) if steps == 1 else lax.fori_loop(0, steps, add_rows, total)
    return total.reshape(kh, kw, 1, c).astype(kernel.dtype)


def _add_each(left: tuple[Array, ...], right: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(a + b for a, b in zip(left, right, strict=True))


def _sliced_max_pool(x: Array, *, window: int, stride: int, padding: str) -> Array:
    pads = _pads(x, (window, window), stride, padding)
    lowest = jnp.array(-jnp.inf, x.dtype)
    padded = lax.pad(x, lowest, [(0, 0, 0), *[(*p, 0) for p in pads], (0, 0, 0)])
    hw = _output_hw(x, stride)
    out = _window(padded, 0, 0, hw, stride)
    for i in range(window):
        for j in range(window):
            if (i, j) != (0, 0):
                out = jnp.maximum(out, _window(padded, i, j, hw, stride))
    return out


def _native_max_pool(x: Array, *, window: int, stride: int, padding: str) -> Array:
    pads = [(0, 0), *_pads(x, (window, window), stride, padding), (0, 0)]
    return lax.reduce_window(
        x, -jnp.inf, lax.max, (1, window, window, 1), (1, stride, stride, 1), pads
    )


# Cached, because JAX traces a function that it has met with the same shapes only once.
@cache
def _depthwise(stride: int, padding: str) -> Callable[[Array, Array], Array]:
    return _per_platform(
        lambda x, kernel: _shifted_depthwise(x, kernel, stride, padding),
        partial(_native_depthwise, stride=stride, padding=padding),
    )


@cache
def _max_pool(window: int, stride: int, padding: str) -> Callable[[Array], Array]:
    native = partial(_native_max_pool, window=window, stride=stride, padding=padding)
    if window > 3:  # Of a pool from P3 to P7 there would be 289 slices to compile.
        return native
    sliced = partial(_sliced_max_pool, window=window, stride=stride, padding=padding)
    return _per_platform(sliced, native)
