"""Resizing of feature maps, NHWC, by the conventions of the published models."""

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array


def resize_nearest(x: Array, hw: tuple[int, int]) -> Array:
    """Resize [B, H, W, C] to `hw` by nearest neighbour, with source index floor(i * in / out).

    This is the convention of the published models; `jax.image.resize` samples at half-pixel centres
    and differs for odd sizes (3 -> 5 is 0 0 1 1 2 here, 0 0 1 2 2 there).
    """
    for axis, out in zip((1, 2), hw, strict=True):
        size = x.shape[axis]
        index = [i * size // out for i in range(out)]
        factor = -(-out // size)
        if index == [i // factor for i in range(out)]:
            # Repeat and slice: the gradient is a sum over neighbours instead of a scatter.
            x = lax.slice_in_dim(jnp.repeat(x, factor, axis=axis), 0, out, axis=axis)
        else:
            x = jnp.take(x, jnp.asarray(index), axis=axis)
    return x


def resize_bilinear(x: Array, hw: tuple[int, int]) -> Array:
    """Resize [B, H, W, C] to `hw` bilinearly, with half-pixel centres; edges are repeated.

    Output i reads at (i + 1/2) * in / out - 1/2, also when downsampling: two entries per axis,
    without antialiasing. In PyTorch this is bilinear with align_corners=False.
    """
    return jax.image.resize(x, (x.shape[0], *hw, x.shape[3]), "linear", antialias=False)
