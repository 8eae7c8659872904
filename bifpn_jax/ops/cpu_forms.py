"""Convolutions and pooling with little arithmetic per value, in forms that XLA:CPU runs fast.

Each is a sum, or a maximum, of shifted slices, which XLA fuses into one vectorised loop with the
operations before and after it. Gradients have the same form; autodiff of the slices would give a
scatter for each. `convolution` has the definitions, and computes the padding that is passed here.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
Pads = tuple[tuple[int, int], ...]  # before and after, of H and of W


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def thin_conv(x: Array, kernel: Array, stride: int, pads: Pads) -> Array:
    """Ordinary convolution of few input channels, such as an image's.

    Args:
        x: [B, H, W, Cin].
        kernel: [kh, kw, Cin, Cout], of the dtype of `x`.
        stride: the same in both directions.
        pads: zeros before and after H and W.

    Returns:
        [B, ceil(H / stride), ceil(W / stride), Cout], summed in float32.
    """
    padded = _pad(x, pads)
    hw = _output_hw(x, stride)
    weights = kernel.astype(jnp.float32)[..., None, None, None, :]
    total = jnp.zeros((), jnp.float32)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            seen = _window(padded, i, j, hw, stride).astype(jnp.float32)
            for c in range(x.shape[3]):
                total = total + seen[..., c : c + 1] * weights[i, j, c]
    return total.astype(x.dtype)


def _thin_forward(
    x: Array, kernel: Array, stride: int, pads: Pads
) -> tuple[Array, tuple[Array, Array]]:
    return thin_conv(x, kernel, stride, pads), (x, kernel)


def _thin_backward(
    stride: int, pads: Pads, saved: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    x, kernel = saved

    def native(x: Array) -> Array:
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    (of_x,) = jax.linear_transpose(native, x)(g)
    patches = _patches(_pad(x, pads), kernel.shape[:2], g.shape[1:3], stride)
    of_kernel = lax.dot_general(
        patches.reshape(-1, patches.shape[-1]),
        g.reshape(-1, g.shape[-1]),
        (((0,), (0,)), ((), ())),
        preferred_element_type=jnp.float32,
    )
    return of_x, of_kernel.reshape(kernel.shape).astype(kernel.dtype)


thin_conv.defvjp(_thin_forward, _thin_backward)


def biased_conv(x: Array, kernel: Array, bias: Array) -> Array:
    """1x1 convolution plus a bias, which becomes one more row of the kernel.

    This saves a pass over the result to add the bias; it helps if the result is much wider than
    `x`.

    Args:
        x: [B, H, W, Cin].
        kernel: [1, 1, Cin, Cout].
        bias: [Cout].

    Returns:
        [B, H, W, Cout].
    """
    with_one = jnp.concatenate([x, jnp.ones((*x.shape[:-1], 1), x.dtype)], axis=-1)
    rows = jnp.concatenate([kernel[0, 0], bias[None]])
    flat = jnp.dot(with_one.reshape(-1, len(rows)), rows)
    return flat.reshape(*x.shape[:-1], -1)


@jax.custom_vjp
def gated_conv(x: Array, gate: Array, kernel: Array) -> Array:
    """1x1 convolution of `x * gate`, with the gates multiplied into one kernel per image.

    Args:
        x: [B, H, W, Cin].
        gate: [B, 1, 1, Cin].
        kernel: [1, 1, Cin, Cout].

    Returns:
        [B, H, W, Cout].
    """
    b, h, w, c_in = x.shape
    kernels = gate[:, 0, 0, :, None] * kernel[0]
    return jnp.einsum("bnc,bco->bno", x.reshape(b, -1, c_in), kernels).reshape(b, h, w, -1)


def _gated_forward(x: Array, gate: Array, kernel: Array) -> tuple[Array, tuple[Array, ...]]:
    return gated_conv(x, gate, kernel), (x, gate, kernel)


def _gated_backward(saved: tuple[Array, ...], g: Array) -> tuple[Array, ...]:
    x, gate, kernel = saved
    b, _, _, c_in = x.shape
    factors = gate[:, 0, 0, :, None]  # [B, Cin, 1]
    g = g.reshape(b, -1, g.shape[-1])
    of_x = jnp.einsum("bno,bco->bnc", g, factors * kernel[0]).reshape(x.shape)
    of_kernels = jnp.einsum("bnc,bno->bco", x.reshape(b, -1, c_in), g)
    of_gate = jnp.sum(of_kernels * kernel[0], axis=-1).reshape(gate.shape)
    # Image by image: a sum over an axis would store its terms, including the broadcast gates.
    of_kernel = sum(factors[i] * of_kernels[i] for i in range(b))
    return of_x, of_gate, of_kernel.reshape(kernel.shape)


gated_conv.defvjp(_gated_forward, _gated_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise_conv(x: Array, kernel: Array, stride: int, pads: Pads) -> Array:
    """Depthwise convolution; arguments as in `thin_conv`, kernel [kh, kw, 1, C]."""
    return _depthwise_forward(x, kernel, stride, pads)[0]


def _depthwise_forward(
    x: Array, kernel: Array, stride: int, pads: Pads
) -> tuple[Array, tuple[Array, Array]]:
    # Without the barrier the compiler reads the middle tap from `x`, and so must store `x` as well
    # as the padded array, instead of making the latter in the loop that computes `x`.
    padded = lax.optimization_barrier(_pad(x, pads))
    return _sum_of_windows(padded, kernel, _output_hw(x, stride), stride), (padded, kernel)


def _depthwise_backward(
    stride: int, pads: Pads, saved: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    padded, kernel = saved
    hw = tuple(size - sum(pad) for size, pad in zip(padded.shape[1:3], pads, strict=True))
    of_x = _input_gradient(g, kernel, hw, stride, [before for before, _ in pads])
    return of_x, _kernel_gradient(padded, g, kernel, stride)


depthwise_conv.defvjp(_depthwise_forward, _depthwise_backward)


def max_pool(x: Array, window: int, stride: int, pads: Pads) -> Array:
    """Max-pooling as a maximum of shifted slices: [B, H, W, C] -> [B, ., ., C]."""
    lowest = jnp.array(-jnp.inf, x.dtype)
    padded = lax.pad(x, lowest, [(0, 0, 0), *[(*p, 0) for p in pads], (0, 0, 0)])
    hw = _output_hw(x, stride)
    out = _window(padded, 0, 0, hw, stride)
    for i in range(window):
        for j in range(window):
            if (i, j) != (0, 0):
                out = jnp.maximum(out, _window(padded, i, j, hw, stride))
    return out


def _pad(x: Array, pads: Pads) -> Array:
    return jnp.pad(x, ((0, 0), *pads, (0, 0)))


def _output_hw(x: Array, stride: int) -> tuple[int, int]:
    return -(-x.shape[1] // stride), -(-x.shape[2] // stride)


def _window(x: Array, i: int, j: int, hw: tuple[int, int], stride: int) -> Array:
    """Return the entries of padded `x` that kernel tap (i, j) reads, one per output position."""
    b, _, _, c = x.shape
    stop = (b, i + (hw[0] - 1) * stride + 1, j + (hw[1] - 1) * stride + 1, c)
    return lax.slice(x, (0, i, j, 0), stop, (1, stride, stride, 1))


def _patches(x: Array, kernel_hw: tuple[int, int], hw: tuple[int, int], stride: int) -> Array:
    """Return the entries of padded `x` that each output reads: [B, h, w, kh * kw * C]."""
    taps = [(i, j) for i in range(kernel_hw[0]) for j in range(kernel_hw[1])]
    return jnp.concatenate([_window(x, i, j, hw, stride) for i, j in taps], axis=-1)


def _sum_of_windows(x: Array, kernel: Array, hw: tuple[int, int], stride: int) -> Array:
    """Valid depthwise convolution of padded `x`, accumulated in float32."""
    kh, kw = kernel.shape[:2]
    weights = kernel.astype(jnp.float32)  # [kh, kw, 1, C]
    taps = [
        _window(x, i, j, hw, stride).astype(jnp.float32) * weights[i, j][None, None]
        for i in range(kh)
        for j in range(kw)
    ]
    return sum(taps[1:], taps[0]).astype(x.dtype)


def _input_gradient(
    g: Array, kernel: Array, hw: tuple[int, int], stride: int, before: list[int]
) -> Array:
    """Gradient of a depthwise convolution with respect to its input of size `hw`.

    The input was padded with `before`. Input rows y with the same y mod stride are read by the same
    kernel rows, so each of the stride x stride phases is a stride-1 convolution of `g` with a part
    of the flipped kernel.
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
            row.append(_sum_of_windows(padded, part[::-1, ::-1], phase_hw, 1))
        phases.append(row)
    if stride == 1:
        return phases[0][0]
    b, c = g.shape[0], g.shape[3]
    rows = [jnp.stack(row, axis=3) for row in phases]  # [B, h, w, stride, C] each
    full = jnp.stack(rows, axis=2).reshape(b, phase_hw[0] * stride, phase_hw[1] * stride, c)
    return full[:, : hw[0], : hw[1]]


def _kernel_gradient(padded: Array, g: Array, kernel: Array, stride: int) -> Array:
    """Gradient of a depthwise convolution with respect to its kernel.

    All kh x kw sums over a row are one reduction, which reads the row once, and rows run in
    parallel; the remaining sums over rows are small.
    """
    kh, kw = kernel.shape[:2]
    g32 = g.astype(jnp.float32)
    products = tuple(
        _window(padded, i, j, g.shape[1:3], stride).astype(jnp.float32) * g32
        for i in range(kh)
        for j in range(kw)
    )
    zeros = (jnp.zeros((), jnp.float32),) * (kh * kw)
    rows = lax.reduce(products, zeros, _add_each, (2,))  # [B, h, C] each
    of_kernel = jnp.sum(jnp.stack(rows), axis=(1, 2))
    return of_kernel.reshape(kernel.shape).astype(kernel.dtype)


def _add_each(left: tuple[Array, ...], right: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(a + b for a, b in zip(left, right, strict=True))
