"""Boxes are ``[y0, x0, y1, x1]`` in pixels, float32; this module is all their arithmetic.

Every function takes numpy or JAX arrays and answers in kind. COCO's ``[x, y, width, height]``
exists only at the file boundary, through :func:`from_xywh` and :func:`to_xywh`.
"""

import types

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array | np.ndarray

# Sides are at least this long inside a logarithm or a quotient, so that empty boxes stay finite.
_SMALLEST_SIDE = 1e-8


def area(boxes: Array) -> Array:
    """Return areas [...] of boxes [..., 4] in square pixels; 0 for empty or inverted boxes."""
    y0, x0, y1, x1 = _columns(boxes)
    return _extent(y1 - y0, x1 - x0)


def pairwise_iou(a: Array, b: Array) -> Array:
    """Return intersection over union [N, M] of every box of a [N, 4] with every box of b [M, 4].

    In [0, 1]; 0 if the boxes do not intersect or either is empty. Bit-identical whether compiled or
    not, because matching must decide between anchors that contain the same box.
    """
    xp = _namespace(a, b)
    a_y0, a_x0, a_y1, a_x1 = (column[:, None] for column in _columns(a))
    b_y0, b_x0, b_y1, b_x1 = (column[None, :] for column in _columns(b))
    height = xp.minimum(a_y1, b_y1) - xp.maximum(a_y0, b_y0)
    width = xp.minimum(a_x1, b_x1) - xp.maximum(a_x0, b_x0)
    intersection = _extent(height, width)
    union = area(a)[:, None] + area(b)[None, :] - intersection
    return intersection / xp.where(intersection > 0, union, 1)


def clip(boxes: Array, hw: Array | tuple[float, float]) -> Array:
    """Clip boxes [..., N, 4] to the image [0, h] x [0, w] with hw = (h, w), shape [..., 2]."""
    xp = _namespace(boxes, hw)
    limit = xp.asarray(hw, boxes.dtype)[..., None, :]
    return xp.clip(boxes, 0, xp.concatenate([limit, limit], axis=-1))


def encode(boxes: Array, anchors: Array) -> Array:
    """Encode boxes [..., 4] relative to anchors [..., 4] as box codes (ty, tx, th, tw) [..., 4].

    The offset of the centre in units of the anchor's size, and the logarithm of the ratio of sizes,
    without further scaling. Finite for every finite input: sides of empty boxes count as 1e-8 px.
    """
    xp = _namespace(boxes, anchors)
    y, x, h, w = _centre_and_size(boxes)
    anchor_y, anchor_x, anchor_h, anchor_w = _centre_and_size(anchors)
    h, w, anchor_h, anchor_w = (
        xp.maximum(side, _SMALLEST_SIDE) for side in (h, w, anchor_h, anchor_w)
    )
    ty = (y - anchor_y) / anchor_h
    tx = (x - anchor_x) / anchor_w
    return xp.stack([ty, tx, xp.log(h / anchor_h), xp.log(w / anchor_w)], axis=-1)


def decode(codes: Array, anchors: Array) -> Array:
    """Decode box codes [..., 4] with their anchors [..., 4] to boxes; the inverse of encode.

    The sizes are not clamped: th and tw above about 80 overflow to infinite boxes, which
    :func:`clip` clips to the image.
    """
    xp = _namespace(codes, anchors)
    ty, tx, th, tw = _columns(codes)
    anchor_y, anchor_x, anchor_h, anchor_w = _centre_and_size(anchors)
    y, x = anchor_y + ty * anchor_h, anchor_x + tx * anchor_w
    half_h, half_w = xp.exp(th) * anchor_h / 2, xp.exp(tw) * anchor_w / 2
    return xp.stack([y - half_h, x - half_w, y + half_h, x + half_w], axis=-1)


def from_xywh(boxes: Array) -> Array:
    """Convert COCO's [x, y, width, height] to [y0, x0, y1, x1], both [..., 4] in pixels."""
    x, y, w, h = _columns(boxes)
    return _namespace(boxes).stack([y, x, y + h, x + w], axis=-1)


def to_xywh(boxes: Array) -> Array:
    """Convert [y0, x0, y1, x1] to COCO's [x, y, width, height], both [..., 4] in pixels."""
    y0, x0, y1, x1 = _columns(boxes)
    return _namespace(boxes).stack([x0, y0, x1 - x0, y1 - y0], axis=-1)


def _extent(height: Array, width: Array) -> Array:
    """Return the product of the sides, 0 unless both are positive.

    The selection after the product keeps compilers from contracting the product with a later sum
    into one operation that rounds once, which would depend on how the program is fused.
    """
    xp = _namespace(height, width)
    return xp.where((height > 0) & (width > 0), height * width, 0)


def _columns(boxes: Array) -> tuple[Array, Array, Array, Array]:
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]


def _centre_and_size(boxes: Array) -> tuple[Array, Array, Array, Array]:
    y0, x0, y1, x1 = _columns(boxes)
    return (y0 + y1) / 2, (x0 + x1) / 2, y1 - y0, x1 - x0


def _namespace(*arrays: object) -> types.ModuleType:
    """Return jax.numpy if any argument is a JAX array (traced or not), else numpy."""
    return jnp if any(isinstance(array, jax.Array) for array in arrays) else np
