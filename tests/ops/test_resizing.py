"""Both ways to resize, forward and backward, against their definitions in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bifpn_jax.ops.resizing import resize_bilinear, resize_nearest


def integers(shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).integers(-2, 3, shape).astype(dtype)


def with_gradient(f):
    """(g, x) -> output and the gradient of x for the cotangent g."""

    def run(g, x):
        out, pull_back = jax.vjp(f, x)
        return out, *pull_back(g)

    return jax.jit(run)


@pytest.mark.parametrize(
    ("size", "indices"),
    [(3, [0, 0, 1, 1, 2]), (4, [0, 0, 1, 1, 2, 2, 3]), (1, [0, 0]), (5, [0, 1, 3])],
)
def test_nearest_resize_takes_the_published_indices(size, indices):
    x = np.arange(float(size), dtype=np.float32)
    out = resize_nearest(x[None, :, None, None], (len(indices), 1))
    np.testing.assert_array_equal(out[0, :, 0, 0], indices)
    out = resize_nearest(x[None, None, :, None], (1, len(indices)))
    np.testing.assert_array_equal(out[0, 0, :, 0], indices)


def test_half_pixel_resize_would_differ():
    x = jnp.arange(3.0)[None, :, None, None]
    halves = jax.image.resize(x, (1, 5, 1, 1), "nearest")
    np.testing.assert_array_equal(halves[0, :, 0, 0], [0, 0, 1, 2, 2])


def resize_cases():
    halved = [(size, out) for size in range(1, 7) for out in (2 * size - 1, 2 * size)]
    others = [(3, 7), (2, 11), (7, 10), (9, 4), (11, 11), (5, 3)]
    pairs = halved + others
    # Each pair in height with another in width.
    return list(zip(pairs, pairs[5:] + pairs[:5], strict=True))


@pytest.mark.parametrize(("height", "width"), resize_cases())
def test_nearest_resize_equals_its_definition(height, width):
    (h, out_h), (w, out_w) = height, width
    x, g = integers((2, h, w, 2), 1), integers((2, out_h, out_w, 2), 2)
    rows = [i * h // out_h for i in range(out_h)]
    columns = [i * w // out_w for i in range(out_w)]
    index = np.ix_(range(2), rows, columns, range(2))
    gradient = np.zeros_like(x)
    np.add.at(gradient, index, g)
    ours = with_gradient(lambda x: resize_nearest(x, (out_h, out_w)))(g, x)
    np.testing.assert_array_equal(ours[0], x[index])
    np.testing.assert_array_equal(ours[1], gradient)


def test_nearest_resize_keeps_bfloat16():
    x = integers((1, 3, 4, 2), 1, jnp.bfloat16)
    out = resize_nearest(x, (5, 7))
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(out[:, [0, 2, 4], ::2], x)


def bilinear_matrix(size, out):
    """[out, size]: how much of each entry an output takes, by align_corners=False."""
    matrix = np.zeros((out, size))
    for i in range(out):
        centre = max((i + 0.5) * size / out - 0.5, 0)
        low = int(centre)
        matrix[i, low] += 1 - (centre - low)
        matrix[i, min(low + 1, size - 1)] += centre - low
    return matrix


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (4, [0, 0.25, 0.75, 1]),
        (1, [0.5]),
        (3, [0, 0.5, 1]),
        (5, [0, 0.1, 0.5, 0.9, 1]),
    ],
)
def test_bilinear_resize_interpolates_between_centres(size, expected):
    x = np.array([0.0, 1.0], np.float32)
    out = resize_bilinear(x[None, :, None, None], (size, 1))
    np.testing.assert_allclose(out[0, :, 0, 0], expected, atol=1e-6)


def test_bilinear_resize_does_not_smooth_where_it_shrinks():
    x = np.array([0, 0, 9, 0, 0, 0, 3, 5, 0], np.float32)
    out = resize_bilinear(x[None, None, :, None], (1, 3))
    np.testing.assert_allclose(out[0, 0, :, 0], x[1::3], atol=1e-6)


@pytest.mark.parametrize(("height", "width"), resize_cases())
def test_bilinear_resize_equals_its_definition(height, width):
    for (h, out_h), (w, out_w) in [(height, width), (height[::-1], width[::-1])]:
        x, g = integers((2, h, w, 2), 1), integers((2, out_h, out_w, 2), 2)
        rows, columns = bilinear_matrix(h, out_h), bilinear_matrix(w, out_w)
        ours = with_gradient(lambda x, hw=(out_h, out_w): resize_bilinear(x, hw))(g, x)
        expected = np.einsum("yh,xw,bhwc->byxc", rows, columns, x)
        np.testing.assert_allclose(ours[0], expected, atol=1e-5)
        gradient = np.einsum("yh,xw,byxc->bhwc", rows, columns, g)
        np.testing.assert_allclose(ours[1], gradient, atol=1e-5)


def test_bilinear_resize_keeps_bfloat16():
    x = integers((1, 4, 6, 2), 1, jnp.bfloat16)
    out = resize_bilinear(x, (2, 3))
    assert out.dtype == jnp.bfloat16
    means = np.float32(x).reshape(1, 2, 2, 3, 2, 2).mean((2, 4))
    np.testing.assert_array_equal(np.float32(out), means)
