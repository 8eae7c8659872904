"""The anchor grid of EfficientDet (arXiv 1911.09070, after RetinaNet), as a numpy constant.

Row order is that of the model's outputs: level, y, x, then octave * len(aspect_ratios) + aspect.
"""

from collections.abc import Sequence

import numpy as np

from bifpn_jax.errors import UserError

Aspect = float | tuple[float, float]

# (width factor, height factor): the pairs the released checkpoints were trained with.
ASPECT_RATIOS = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))


def level_shapes(
    image_hw: tuple[int, int], min_level: int, max_level: int
) -> list[tuple[int, int]]:
    """Return height and width of each level's feature map; every level halves and rounds up.

    Raises:
        UserError: the image is empty or the levels are not 0 <= min_level <= max_level.
    """
    height, width = image_hw
    if height < 1 or width < 1:
        raise UserError(f"image size {height} x {width}: both sides must be at least 1 pixel")
    if not 0 <= min_level <= max_level:
        raise UserError(f"levels {min_level} to {max_level}: must be 0 <= min_level <= max_level")
    return [(-(-height // 2**i), -(-width // 2**i)) for i in range(min_level, max_level + 1)]


def anchor_grid(
    image_hw: tuple[int, int],
    *,
    min_level: int = 3,
    max_level: int = 7,
    anchor_scale: float | Sequence[float] = 4.0,
    num_scales: int = 3,
    aspect_ratios: Sequence[Aspect] = ASPECT_RATIOS,
) -> np.ndarray:
    """Return anchors [A, 4] float32 (y0, x0, y1, x1) in pixels for images of any size.

    The stride of a level is image size / feature size along each axis, so it is fractional if the
    size is not divisible. Sizes are ``anchor_scale * stride * 2**(octave / num_scales)``, and
    anchors at the border extend beyond the image.

    Args:
        image_hw: height and width of the network's input in pixels.
        min_level: finest level, with a stride of about ``2**min_level``.
        max_level: coarsest level, inclusive.
        anchor_scale: size of the first octave in strides; one number, or one per level.
        num_scales: octaves per level.
        aspect_ratios: each is either a number a, width / height, which stands for the factors
            (sqrt(a), 1 / sqrt(a)), or the pair (width factor, height factor) itself.

    Raises:
        UserError: an argument is out of range, or anchor_scale does not have one entry per level.
    """
    shapes = level_shapes(image_hw, min_level, max_level)
    scales = _scale_per_level(anchor_scale, len(shapes))
    if num_scales < 1:
        raise UserError(f"num_scales = {num_scales}: at least 1 octave per level is needed")
    octaves = 2.0 ** (np.arange(num_scales) / num_scales)
    factors = np.array([_aspect_factors(aspect) for aspect in aspect_ratios]).reshape(-1, 2)
    if not len(factors):
        raise UserError("aspect_ratios is empty: at least one aspect ratio is needed")
    levels = [
        _level_anchors(image_hw, shape, scale, octaves, factors)
        for shape, scale in zip(shapes, scales, strict=True)
    ]
    return np.concatenate(levels).astype(np.float32)


def _level_anchors(
    image_hw: tuple[int, int],
    shape: tuple[int, int],
    scale: float,
    octaves: np.ndarray,
    factors: np.ndarray,
) -> np.ndarray:
    stride_y, stride_x = image_hw[0] / shape[0], image_hw[1] / shape[1]
    half_w = (scale * stride_x * octaves[:, None] * factors[None, :, 0] / 2).reshape(-1)
    half_h = (scale * stride_y * octaves[:, None] * factors[None, :, 1] / 2).reshape(-1)
    y = stride_y / 2 + stride_y * np.arange(shape[0])[:, None, None]
    x = stride_x / 2 + stride_x * np.arange(shape[1])[None, :, None]
    corners = np.broadcast_arrays(y - half_h, x - half_w, y + half_h, x + half_w)
    return np.stack(corners, axis=-1).reshape(-1, 4)


def _scale_per_level(anchor_scale: float | Sequence[float], num_levels: int) -> np.ndarray:
    scales = np.atleast_1d(np.asarray(anchor_scale, np.float64))
    if np.ndim(anchor_scale) == 0:
        scales = np.repeat(scales, num_levels)
    if scales.shape != (num_levels,):
        raise UserError(
            f"anchor_scale has {len(scales)} entries for {num_levels} levels: "
            "give one number, or one per level"
        )
    if not np.all(scales > 0):
        raise UserError(f"anchor_scale = {anchor_scale}: must be positive")
    return scales


def _aspect_factors(aspect: Aspect) -> tuple[float, float]:
    """Return (width factor, height factor) of one entry of aspect_ratios."""
    try:
        pair = np.asarray(aspect, np.float64)
    except (TypeError, ValueError):  # text, or lists of different lengths
        pair = np.zeros(2)
    if pair.shape not in ((), (2,)) or not np.all(pair > 0):
        raise UserError(
            f"aspect ratio {aspect}: must be a positive number (width / height) "
            "or a positive pair (width factor, height factor)"
        )
    width, height = pair if pair.shape else (np.sqrt(pair), 1 / np.sqrt(pair))
    return float(width), float(height)
