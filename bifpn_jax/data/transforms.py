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


def scale_jitter_crop(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator,
    image_hw: tuple[int, int],
    jitter: tuple[float, float] = (0.1, 2.0),
    antialias: bool = False,
) -> Example:
    """Scale an image by a random factor and cut or pad it to the network's frame.

    With s ~ U(jitter) the image is fitted into a box of s times the frame, its aspect ratio kept.
    Where it is then larger than the frame, a random part of it is taken. Boxes are cut to the
    frame; those of which nothing is left are removed.

    Args:
      image: [H, W, 3] uint8.
      boxes: [N, 4] float32.
      labels: [N] int32.
      rng: three numbers are drawn from it, whatever happens.
      image_hw: height and width of the frame.
      jitter: lowest and highest s; (1, 1) is a letterbox.
      antialias: as in ``resize``.
    """
    s = rng.uniform(*jitter)
    across = rng.random(2)
    factor = min(
        int(s * side) / original for side, original in zip(image_hw, image.shape[:2], strict=True)
    )
    scaled_hw = _scaled_hw(image, factor)
    excess = np.maximum(0, np.subtract(scaled_hw, image_hw))
    offset = (across * excess).astype(int)  # truncated: the last row is only reached at 1.0
    resized = resize(image, scaled_hw, antialias)
    return _place(image, resized, boxes, labels, tuple(offset.tolist()), image_hw, 1 / factor)


def letterbox(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    image_hw: tuple[int, int],
    antialias: bool = False,
) -> Example:
    """Fit an image with its boxes into the frame, as ``letterbox_image`` does."""
    factor = _fit(image, image_hw)
    resized = resize(image, _scaled_hw(image, factor), antialias)
    return _place(image, resized, boxes, labels, (0, 0), image_hw, 1 / factor)


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


def _place(
    image: np.ndarray,
    resized: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    offset: tuple[int, int],
    image_hw: tuple[int, int],
    scale: float,
) -> Example:
    """Cut ``image_hw`` out of the resized image at ``offset``, pad at the bottom and right."""
    (h, w), (top, left) = image.shape[:2], offset
    content = resized[top : top + image_hw[0], left : left + image_hw[1]]
    content_hw = content.shape[:2]
    frame = np.zeros((*image_hw, 3), np.uint8)
    frame[: content_hw[0], : content_hw[1]] = content

    # Truncated sizes make the two factors differ a little; boxes follow the pixels exactly.
    factors = np.array([resized.shape[0] / h, resized.shape[1] / w] * 2)
    placed = boxes * factors[None] - np.array([top, left] * 2)[None]
    placed = np.clip(placed, 0, np.array(image_hw * 2)[None] - 1).astype(np.float32)
    kept = (placed[:, 2:] > placed[:, :2]).all(axis=1)
    return Example(frame, content_hw, placed[kept], labels[kept], scale)
