"""Augmentation and letterboxing of one image with its boxes: numpy and OpenCV, pure functions.

Facts of the published recipe that are kept: bilinear resize with half-pixel centres and without
antialiasing, scaled sizes truncated to whole pixels, content at the top-left of the frame, boxes
clipped to ``[0, size - 1]``. Images stay uint8; what lies beyond ``content_hw`` is zero here and
is set to exactly zero again after the normalisation on the device.

Shapes: image [H, W, 3] uint8, boxes [N, 4] float32 yxyx in its pixels, labels [N] int32.
"""

from typing import NamedTuple

import cv2
import numpy as np

cv2.setNumThreads(0)


class Example(NamedTuple):
    """An image in the network's frame.

    Attributes:
      image: [H, W, 3] uint8, content at the top-left, zero elsewhere.
      content_hw: height and width of the content.
      boxes: [N, 4] float32 yxyx, network pixels.
      labels: [N] int32.
      scale: original pixels = network pixels * scale; for a crop, up to its offset.
    """

    image: np.ndarray
    content_hw: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    scale: float


def flip_horizontally(image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mirror an image and its boxes left to right."""
    width = np.float32(image.shape[1])
    y0, x0, y1, x1 = boxes.T
    return cv2.flip(image, 1), np.stack([y0, width - x1, y1, width - x0], axis=1)


class Jitter(NamedTuple):
    """The random numbers of one ``jitter_crop``.

    Attributes:
      scale: s, how large the image is made relative to the frame.
      across: where the crop lies, from 0 at the top and left to 1 at the bottom and right.
    """

    scale: float
    across: tuple[float, float]


def draw_jitter(rng: np.random.Generator, jitter: tuple[float, float] = (0.1, 2.0)) -> Jitter:
    """Draw s ~ U(jitter) and a place for the crop: three numbers, whatever happens."""
    return Jitter(rng.uniform(*jitter), tuple(rng.random(2).tolist()))


def scale_jitter_crop(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
    image_hw: tuple[int, int],
    jitter: tuple[float, float] = (0.1, 2.0),
    antialias: bool = False,
) -> Example:
    """Do ``jitter_crop`` with random numbers from ``rng``, those of ``draw_jitter``."""
    return jitter_crop(image, boxes, labels, draw_jitter(rng, jitter), image_hw, antialias)


def jitter_crop(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    jitter: Jitter,
    image_hw: tuple[int, int],
    antialias: bool = False,
    out: np.ndarray | None = None,
) -> Example:
    """Scale an image by a factor and cut or pad it to the network's frame.

    The image is fitted into a box of ``jitter.scale`` times the frame, its aspect ratio kept.
    Where it is then larger than the frame, a part of it is taken. Boxes are cut to the frame;
    those of which nothing is left are removed.

    Args:
      image: [h, w, 3] uint8.
      boxes: [N, 4] float32.
      labels: [N] int32.
      jitter: the factor and the place of the crop; a scale of 1 is a letterbox.
      image_hw: height H and width W of the frame.
      antialias: as in ``resize``.
      out: [H, W, 3] uint8, where the frame is to be written.
    """
    factor = min(
        max(1, int(jitter.scale * side)) / original
        for side, original in zip(image_hw, image.shape[:2], strict=True)
    )
    scaled_hw = _scaled_hw(image, factor)
    top, left = (
        int(across * max(0, scaled - side))  # truncated: the last row is only reached at 1.0
        for across, scaled, side in zip(jitter.across, scaled_hw, image_hw, strict=True)
    )
    placement = _Placement(scaled_hw, (top, left), image_hw, antialias)
    return _place(image, boxes, labels, placement, 1 / factor, out)


def letterbox(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    image_hw: tuple[int, int],
    antialias: bool = False,
    out: np.ndarray | None = None,
) -> Example:
    """Fit an image with its boxes into the frame, as ``letterbox_image`` does.

    The frame is written to ``out`` [H, W, 3] uint8 if that is given.
    """
    factor = _fit(image, image_hw)
    placement = _Placement(_scaled_hw(image, factor), (0, 0), image_hw, antialias)
    return _place(image, boxes, labels, placement, 1 / factor, out)


def letterbox_image(
    image: np.ndarray, image_hw: tuple[int, int], antialias: bool = False
) -> tuple[np.ndarray, tuple[int, int], float]:
    """Fit an image into the network's frame, aspect ratio kept, content at the top-left.

    Args:
      image: [h, w, 3] uint8.
      image_hw: height H and width W of the frame.
      antialias: as in ``resize``.

    Returns:
      image [H, W, 3] uint8, height and width of the content, and the scale: original pixels =
      network pixels * scale.
    """
    no_boxes, no_labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
    example = letterbox(image, no_boxes, no_labels, image_hw, antialias)
    return example.image, example.content_hw, example.scale


def resize(image: np.ndarray, hw: tuple[int, int], antialias: bool = False) -> np.ndarray:
    """Resize an image [h, w, 3] uint8 to ``hw``, bilinear with half-pixel centres.

    Args:
      image: the image.
      hw: height and width to give it.
      antialias: widen the filter where the image shrinks, as Pillow does, so that every pixel
        counts. The published recipe does not.
    """
    if not antialias:
        return cv2.resize(image, hw[::-1], interpolation=cv2.INTER_LINEAR)
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize(hw[::-1], Image.Resampling.BILINEAR))


def _fit(image: np.ndarray, image_hw: tuple[int, int]) -> float:
    return min(image_hw[0] / image.shape[0], image_hw[1] / image.shape[1])


def _scaled_hw(image: np.ndarray, factor: float) -> tuple[int, int]:
    # Truncated, but 511.9999999 is a rounding error of 512; and a thin image keeps one pixel.
    height, width = (int(side * factor + 1e-6) for side in image.shape[:2])
    return max(1, height), max(1, width)


class _Placement(NamedTuple):
    """How an image comes into the frame: resized to ``scaled_hw``, ``offset`` at the frame's 0."""

    scaled_hw: tuple[int, int]
    offset: tuple[int, int]
    image_hw: tuple[int, int]
    antialias: bool


def _place(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    placement: _Placement,
    scale: float,
    out: np.ndarray | None,
) -> Example:
    """Put a resized image and its boxes into the frame, zero at the bottom and right."""
    scaled_hw, (top, left), image_hw, antialias = placement
    frame = np.empty((*image_hw, 3), np.uint8) if out is None else out
    height, width = (min(side, scaled) for side, scaled in zip(image_hw, scaled_hw, strict=True))
    frame[height:] = 0
    frame[:height, width:] = 0
    if (height, width) == scaled_hw and not antialias:
        cv2.resize(image, (width, height), frame[:height, :width], interpolation=cv2.INTER_LINEAR)
    else:
        corner = top + height, left + width
        resized = _resize_top_left(image, scaled_hw, corner, antialias)
        frame[:height, :width] = resized[top : corner[0], left : corner[1]]

    # Truncated sizes make the two factors differ a little; boxes follow the pixels exactly.
    factors = np.array([scaled_hw[0] / image.shape[0], scaled_hw[1] / image.shape[1]] * 2)
    placed = boxes * factors[None] - np.array([top, left] * 2)[None]
    placed = np.clip(placed, 0, np.array(image_hw * 2)[None] - 1).astype(np.float32)
    kept = (placed[:, 2:] > placed[:, :2]).all(axis=1)
    return Example(frame, (height, width), placed[kept], labels[kept], scale)


def _resize_top_left(
    image: np.ndarray, hw: tuple[int, int], corner: tuple[int, int], antialias: bool
) -> np.ndarray:
    """Return ``resize(image, hw, antialias)`` at least up to ``corner``, the same pixels.

    Only the bottom and right can be left out: OpenCV cannot begin between two pixels.
    """
    if antialias:
        return resize(image, hw, antialias)
    (h, w), (bottom, right) = image.shape[:2], corner
    # The last pixels before the corner are mixed from one more row and column.
    part = image[: -(-bottom * h // hw[0]) + 1, : -(-right * w // hw[1]) + 1]
    return cv2.resize(part, None, fx=hw[1] / w, fy=hw[0] / h, interpolation=cv2.INTER_LINEAR)
