"""Both implementations of every operation against plain numpy.

The inputs are small whole numbers, so every product and every sum is exact in float32, whatever the
order, and the tests ask for equality. Where a result is stored in bfloat16 it is the rounded one.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from bifpn_jax.ops import convolution
from bifpn_jax.ops.convolution import (
    biased_conv,
    conv,
    depthwise_conv,
    gated_conv,
    max_pool,
    same_padding,
    symmetric_padding,
)
from bifpn_jax.ops.resizing import resize_nearest

# All sides from 1 to 11, square and not.
SIZES = [(1, 11), (10, 2), (9, 3), (4, 8), (7, 5), (6, 6)]
PADDINGS = [(3, 2), (5, 2), (3, 1), (5, 1), (1, 2), (3, 3)]  # kernel, stride


def integers(shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).integers(-2, 3, shape).astype(dtype)


def padding(size, kernel, stride):
    """TensorFlow's SAME: the odd one goes to the end."""
    total = max((int(np.ceil(size / stride)) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def pad(x, kernel, stride, value):
    pads = [padding(size, kernel, stride) for size in x.shape[1:3]]
    return np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=value), pads


def taps(padded, kernel, stride, hw):
    """(i, j, slices of `padded` under kernel entry (i, j), one element per output)."""
    for i in range(kernel):
        for j in range(kernel):
            rows = slice(i, i + (hw[0] - 1) * stride + 1, stride)
            columns = slice(j, j + (hw[1] - 1) * stride + 1, stride)
            yield i, j, (slice(None), rows, columns)


def depthwise_reference(x, kernel, g, stride):
    """Output and both gradients in float64."""
    x, kernel, g = (np.asarray(a, np.float64) for a in (x, kernel, g))
    padded, pads = pad(x, len(kernel), stride, 0)
    out, padded_gradient, kernel_gradient = (np.zeros_like(a) for a in (g, padded, kernel))
    for i, j, window in taps(padded, len(kernel), stride, g.shape[1:3]):
        out += padded[window] * kernel[i, j]
        padded_gradient[window] += g * kernel[i, j]
        kernel_gradient[i, j, 0] = (padded[window] * g).sum((0, 1, 2))
    (top, _), (left, _) = pads
    h, w = x.shape[1:3]
    return out, padded_gradient[:, top : top + h, left : left + w], kernel_gradient


def with_gradients(f):
    """(g, *args) -> output and the gradients of all arguments for the cotangent g."""

    def run(g, *args):
        out, pull_back = jax.vjp(f, *args)
        return out, *pull_back(g)

    return jax.jit(run)


def output_hw(hw, stride):
    return tuple(-(-size // stride) for size in hw)


@pytest.mark.parametrize(("kernel", "stride"), PADDINGS)
def test_same_padding_is_tensorflows(kernel, stride):
    for size in range(1, 12):
        assert same_padding(size, kernel, stride) == padding(size, kernel, stride)


def test_same_padding_at_even_sizes_goes_to_the_end():
    assert same_padding(512, 3, 2) == (0, 1)
    assert same_padding(512, 5, 2) == (1, 2)
    assert same_padding(513, 3, 2) == (1, 1)


# All sizes where a model has that kernel and stride, three pairs of sizes elsewhere.
DEPTHWISE_CASES = [
    (kernel, stride, hw)
    for kernel in (1, 3, 5)
    for stride in (1, 2, 3)
    for hw in (SIZES if kernel > 1 and stride < 3 else SIZES[::2])
]
# On the CPU the kernel's gradient goes over 4, 3, 2 or 1 rows at a time.
DEPTHWISE_CASES += [(3, 1, (12, 3)), (3, 1, (11, 2)), (5, 2, (24, 4)), (3, 2, (21, 1))]


@pytest.mark.parametrize(("kernel", "stride", "hw"), DEPTHWISE_CASES)
def test_depthwise_equals_its_definition(kernel, stride, hw):
    x, k = integers((2, *hw, 3), 1), integers((kernel, kernel, 1, 3), 2)
    g = integers((2, *output_hw(hw, stride), 3), 3)
    expected = depthwise_reference(x, k, g, stride)
    on_cpu = with_gradients(lambda x, k: depthwise_conv(x, k, stride=stride))(g, x, k)
    for ours, reference in zip(on_cpu, expected, strict=True):
        np.testing.assert_array_equal(ours, reference)


@pytest.mark.parametrize(("kernel", "stride"), PADDINGS)
def test_depthwise_of_xla_equals_its_definition(kernel, stride):
    for hw in SIZES[2:5]:
        x, k = integers((2, *hw, 3), 1), integers((kernel, kernel, 1, 3), 2)
        g = integers((2, *output_hw(hw, stride), 3), 3)

        def native(x, k):
            return convolution._native_depthwise(x, k, stride=stride, padding="same")

        expected = depthwise_reference(x, k, g, stride)
        for theirs, reference in zip(with_gradients(native)(g, x, k), expected, strict=True):
            np.testing.assert_array_equal(theirs, reference)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 2)])
def test_depthwise_in_bfloat16_rounds_once(kernel, stride):
    """Sums are taken in float32; only what is returned is rounded."""
    x, k = (integers(s, 1, jnp.bfloat16) for s in ((4, 11, 10, 3), (kernel, kernel, 1, 3)))
    # Far more than the 8 bits of bfloat16: thirds, not whole numbers.
    x = (x / 3).astype(jnp.bfloat16)
    g = integers((4, *output_hw((11, 10), stride), 3), 3, jnp.bfloat16)
    run = with_gradients(lambda x, k: depthwise_conv(x, k, stride=stride))
    for ours, exact in zip(run(g, x, k), depthwise_reference(x, k, g, stride), strict=True):
        assert ours.dtype == jnp.bfloat16
        np.testing.assert_array_equal(ours, exact.astype(jnp.bfloat16))


@pytest.mark.parametrize("c_in", [3, convolution.THIN + 1])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (5, 2)])
def test_conv_equals_its_definition(kernel, stride, c_in):
    for hw in [(1, 1), (5, 8), (7, 6)]:
        x, k = integers((2, *hw, c_in), 1), integers((kernel, kernel, c_in, 4), 2)
        padded, _ = pad(x, kernel, stride, 0)
        expected = np.zeros((2, *output_hw(hw, stride), 4))
        for i, j, window in taps(padded, kernel, stride, expected.shape[1:3]):
            expected += padded[window] @ k[i, j]
        np.testing.assert_array_equal(conv(x, k, stride=stride), expected)


def pool_reference(x, g, window, stride):
    """Maximum and its gradient, for an input whose entries all differ."""
    x = x.astype(np.float64)
    padded, pads = pad(x, window, stride, -np.inf)
    seen = np.stack([padded[w] for _, _, w in taps(padded, window, stride, g.shape[1:3])])
    out, winner = seen.max(0), seen.argmax(0)
    gradient = np.zeros_like(padded)
    for n, (_, _, where) in enumerate(taps(padded, window, stride, g.shape[1:3])):
        gradient[where] += np.where(winner == n, g, 0)
    (top, _), (left, _) = pads
    return out, gradient[:, top : top + x.shape[1], left : left + x.shape[2]]


def different_negatives(shape):
    """All entries differ and lie below zero, so that padding with 0 would show."""
    return -1 - np.random.default_rng(5).permutation(np.prod(shape)).reshape(shape)


@pytest.mark.parametrize(
    ("window", "stride", "sizes"),
    [(3, 2, SIZES), (2, 1, SIZES[3:5]), (4, 3, SIZES[4:5]), (1, 2, SIZES[4:5])],
)
def test_max_pool_equals_its_definition(window, stride, sizes):
    for hw in sizes:
        x = different_negatives((1, *hw, 2)).astype(np.float32)
        g = integers((1, *output_hw(hw, stride), 2), 3)
        expected = pool_reference(x, g, window, stride)

        def native(x):
            return convolution._native_max_pool(x, window=window, stride=stride, padding="same")

        for f in (lambda x: max_pool(x, window=window, stride=stride), native):
            for ours, reference in zip(with_gradients(f)(g, x), expected, strict=True):
                np.testing.assert_array_equal(ours, reference)


def test_max_pool_in_bfloat16():
    x = different_negatives((1, 9, 10, 2)).astype(jnp.bfloat16)
    sliced = max_pool(x, window=3, stride=2)
    assert sliced.dtype == jnp.bfloat16
    native = convolution._native_max_pool(x, window=3, stride=2, padding="same")
    np.testing.assert_array_equal(sliced, native)


def test_symmetric_padding_puts_half_the_kernel_first():
    assert symmetric_padding(512, 3, 2) == (1, 0)  # the second 1 would not be read
    assert symmetric_padding(512, 5, 2) == (2, 1)
    assert symmetric_padding(513, 3, 2) == (1, 1)
    for kernel in (1, 3, 5):
        for size in range(1, 12):
            assert symmetric_padding(size, kernel, 1) == same_padding(size, kernel, 1)
            if size % 2:
                assert symmetric_padding(size, kernel, 2) == same_padding(size, kernel, 2)


def plain_conv(x, kernel, stride, groups):
    """As PyTorch writes it: padding=kernel // 2."""
    half = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(half, half)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


SYMMETRIC_CASES = [(kernel, 2, hw) for kernel in (3, 5) for hw in SIZES]
# Strides of no published model, and sizes where the kernel's gradient goes over rows in parts.
SYMMETRIC_CASES += [(3, 1, (7, 5)), (5, 1, (4, 8)), (1, 2, (6, 6)), (3, 3, (7, 5)), (5, 3, (6, 6))]
SYMMETRIC_CASES += [(3, 2, (24, 6)), (5, 2, (22, 3))]


@pytest.mark.parametrize(("kernel", "stride", "hw"), SYMMETRIC_CASES)
def test_symmetric_depthwise_and_its_gradients_are_the_plain_convolutions(kernel, stride, hw):
    x, k = integers((2, *hw, 3), 1), integers((kernel, kernel, 1, 3), 2)
    g = integers((2, *output_hw(hw, stride), 3), 3)
    expected = with_gradients(lambda x, k: plain_conv(x, k, stride, 3))(g, x, k)

    def native(x, k):
        return convolution._native_depthwise(x, k, stride=stride, padding="symmetric")

    def on_cpu(x, k):
        return depthwise_conv(x, k, stride=stride, padding="symmetric")

    for f in (on_cpu, native):
        for ours, reference in zip(with_gradients(f)(g, x, k), expected, strict=True):
            np.testing.assert_array_equal(ours, reference)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_of_a_thin_convolution_are_the_plain_ones(kernel, stride, dtype):
    for hw in [(5, 8), (6, 6)]:
        x, k = integers((2, *hw, 3), 1, dtype), integers((kernel, kernel, 3, 4), 2, dtype)
        g = integers((2, *output_hw(hw, stride), 4), 3, dtype)
        ours = with_gradients(lambda x, k: conv(x, k, stride=stride))(g, x, k)
        wide = [np.asarray(a, np.float32) for a in (g, x, k)]
        plain = with_gradients(
            lambda x, k: convolution._native_conv(x, k, stride=stride, padding="same")
        )(*wide)
        for a, b in zip(ours, plain, strict=True):
            assert a.dtype == dtype
            np.testing.assert_array_equal(a, b.astype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gated_conv_and_its_gradients_are_those_of_a_product_before(dtype):
    x, kernel = integers((2, 3, 5, 7), 1, dtype), integers((1, 1, 7, 4), 2, dtype)
    gate, g = integers((2, 1, 1, 7), 3, dtype), integers((2, 3, 5, 4), 4, dtype)
    ours = with_gradients(gated_conv)(g, x, gate, kernel)
    wide = [np.asarray(a, np.float32) for a in (g, x, gate, kernel)]
    plain = with_gradients(lambda x, gate, kernel: conv(x * gate, kernel))(*wide)
    for a, b in zip(ours, plain, strict=True):
        assert a.dtype == dtype
        np.testing.assert_array_equal(a, b.astype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_biased_conv_and_its_gradients_are_those_of_a_sum_after(dtype):
    x, kernel = integers((2, 3, 5, 7), 1, dtype), integers((1, 1, 7, 4), 2, dtype)
    bias, g = integers((4,), 3, dtype), integers((2, 3, 5, 4), 4, dtype)
    ours = with_gradients(biased_conv)(g, x, kernel, bias)
    wide = [np.asarray(a, np.float32) for a in (g, x, kernel, bias)]
    plain = with_gradients(lambda x, k, bias: conv(x, k) + bias[None, None, None])(*wide)
    for a, b in zip(ours, plain, strict=True):
        assert a.dtype == dtype
        np.testing.assert_array_equal(a, b.astype(dtype))


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (5, 2)])
def test_symmetric_conv_and_its_gradients_are_the_plain_convolutions(kernel, stride):
    for hw in [(1, 1), (5, 8), (6, 6)]:
        x, k = integers((2, *hw, 3), 1), integers((kernel, kernel, 3, 4), 2)
        g = integers((2, *output_hw(hw, stride), 4), 3)
        ours = with_gradients(lambda x, k: conv(x, k, stride=stride, padding="symmetric"))(g, x, k)
        plain = with_gradients(lambda x, k: plain_conv(x, k, stride, 1))(g, x, k)
        for a, b in zip(ours, plain, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("hw", SIZES)
def test_symmetric_max_pool_and_its_gradient_are_the_plain_ones(hw):
    x = different_negatives((1, *hw, 2)).astype(np.float32)
    g = integers((1, *output_hw(hw, 2), 2), 3)

    def plain(x):
        pads = [(0, 0), (1, 1), (1, 1), (0, 0)]
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pads)

    def native(x):
        return convolution._native_max_pool(x, window=3, stride=2, padding="symmetric")

    expected = with_gradients(plain)(g, x)
    for f in (lambda x: max_pool(x, window=3, stride=2, padding="symmetric"), native):
        for ours, reference in zip(with_gradients(f)(g, x), expected, strict=True):
            np.testing.assert_array_equal(ours, reference)


def test_max_pool_shares_the_gradient_of_a_tie():
    x = np.ones((1, 7, 7, 1), np.float32)
    gradient = jax.jit(pool_gradient)(x)
    assert gradient.sum() == 16


def lowered(f, *args, platform):
    return jax.jit(f).trace(*args).lower(lowering_platforms=(platform,)).as_text()


X, KERNEL = np.ones((2, 8, 8, 4), np.float32), np.ones((3, 3, 1, 4), np.float32)


def depthwise_gradient(x, kernel):
    return jax.grad(lambda x, k: depthwise_conv(x, k, stride=2).sum(), (0, 1))(x, kernel)


def pool_gradient(x):
    return jax.grad(lambda x: max_pool(x, window=3, stride=2).sum())(x)


@pytest.mark.parametrize("platform", ["tpu", "cuda", "rocm"])
def test_accelerators_get_the_native_operations(platform):
    assert "feature_group_count = 4" in lowered(depthwise_conv, X, KERNEL, platform=platform)
    text = lowered(depthwise_gradient, X, KERNEL, platform=platform)
    # The gradients of input and kernel, native ones as well.
    assert text.count("stablehlo.convolution") == 2
    assert "stablehlo.while" not in text
    assert "select_and_scatter" in lowered(pool_gradient, X, platform=platform)


def test_a_thin_convolution_is_native_on_accelerators_only():
    image, kernel = np.ones((1, 8, 8, 3), np.float32), np.ones((3, 3, 3, 4), np.float32)
    stem = partial(conv, stride=2)
    assert "stablehlo.convolution" in lowered(stem, image, kernel, platform="cuda")
    assert "stablehlo.convolution" not in lowered(stem, image, kernel, platform="cpu")


def test_a_gate_goes_into_the_kernel_on_cpu_only():
    """The product with the gate has the kernel's size there, elsewhere that of the array."""
    args = np.ones((1, 8, 8, 4)), np.ones((1, 1, 1, 4)), np.ones((1, 1, 4, 6))
    args = [a.astype(np.float32) for a in args]

    def products(platform):
        text = lowered(gated_conv, *args, platform=platform)
        return [line.split(":")[-1] for line in text.splitlines() if "stablehlo.multiply" in line]

    assert products("cpu") == [" tensor<1x4x6xf32>"]
    assert products("tpu") == [" tensor<1x8x8x4xf32>"]


def test_a_bias_is_a_row_of_the_kernel_on_cpu_only():
    args = [np.ones(shape, np.float32) for shape in ((1, 8, 8, 4), (1, 1, 4, 6), (6,))]
    assert "stablehlo.add" not in lowered(biased_conv, *args, platform="cpu")
    for platform in ("cuda", "tpu"):
        text = lowered(biased_conv, *args, platform=platform)
        assert "stablehlo.add" in text
        assert "stablehlo.concatenate" not in text


def test_the_cpu_gets_shifted_sums():
    assert "stablehlo.convolution" not in lowered(depthwise_conv, X, KERNEL, platform="cpu")
    assert "stablehlo.convolution" not in lowered(depthwise_gradient, X, KERNEL, platform="cpu")
    text = lowered(pool_gradient, X, platform="cpu")
    assert "select_and_scatter" not in text
    assert "reduce_window" not in text


def loss(x, kernel):
    x = max_pool(depthwise_conv(x, kernel, stride=1), window=3, stride=2)
    return resize_nearest(x, x.shape[1:3]).sum()


@pytest.mark.devices(2)
def test_transformations_compose():
    """vmap, eval_shape and pmap of the gradient under jit equal a Python loop over it."""
    x, kernel = integers((2, 3, 7, 8, 4), 1), integers((3, 3, 1, 4), 2)
    both = jax.grad(loss, (0, 1))
    jitted = jax.jit(both)
    looped = [jitted(part, kernel) for part in x]
    expected = [np.stack(parts) for parts in zip(*looped, strict=True)]
    mapped = jax.vmap(both, (0, None))
    shapes = jax.eval_shape(mapped, x, kernel)
    for f in (jax.jit(mapped), jax.pmap(both, in_axes=(0, None))):
        for ours, reference, shape in zip(f(x, kernel), expected, shapes, strict=True):
            np.testing.assert_array_equal(ours, reference)
            assert shape.shape == reference.shape
