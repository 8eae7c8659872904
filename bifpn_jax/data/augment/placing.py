"""Placing an image with its boxes into the network's frame: pure functions on numpy and OpenCV.

As in the published recipe: bilinear resize with half-pixel centres and without antialiasing, scaled
sizes truncated to whole pixels, content at the top-left of the frame, boxes clipped to
``[0, size - 1]``. Images stay uint8; pixels beyond ``content_hw`` are zero here and are set to
exactly zero again after the normalisation on the device.

Shapes: image [H, W, 3] uint8, boxes [N, 4] float32 yxyx in its pixels, labels [N] int32.
"""

from typing import NamedTuple

import cv2
import numpy as np

from bifpn_jax.data.augment.augmentation import Example

cv2.setNumThreads(0)


class Frame(NamedTuple):
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


def place(
    example: Example,
    image_hw: tuple[int, int],
    antialias: bool = False,
    out: np.ndarray | None = None,
) -> Frame:
    """Scale an image, keeping its aspect ratio, and crop or pad it to the frame.

    The image is fitted into a box of ``example.placing.scale`` times the frame. If it is then
    larger than the frame, ``placing.across`` chooses the crop. Boxes are clipped to the frame;
    those of which nothing is left are removed.

    Args:
        example: the image with its boxes.
        image_hw: height H and width W of the frame.
        antialias: as in ``resize``.
        out: [H, W, 3] uint8, the array to write the frame to.
    """
    image, boxes, labels, placing = example
    factor = min(
        max(1, int(placing.scale * side)) / original
        for side, original in zip(image_hw, image.shape[:2], strict=True)
    )
    scaled_hw = _scaled_hw(image, factor)
    top, left = (
        int(across * max(0, scaled - side))  # truncated: the last row is only reached at 1.0
        for across, scaled, side in zip(placing.across, scaled_hw, image_hw, strict=True)
    )
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

    # With truncated sizes the two factors differ a little; boxes follow the pixels exactly.
    factors = np.array([scaled_hw[0] / image.shape[0], scaled_hw[1] / image.shape[1]] * 2)
    placed = boxes * factors[None] - np.array([top, left] * 2)[None]
    placed = np.clip(placed, 0, np.array(image_hw * 2)[None] - 1).astype(np.float32)
    kept = (placed[:, 2:] > placed[:, :2]).all(axis=1)
    return Frame(frame, (height, width), placed[kept], labels[kept], 1 / factor)


def letterbox_image(
    image: np.ndarray, image_hw: tuple[int, int], antialias: bool = False
) -> tuple[np.ndarray, tuple[int, int], float]:
    """Fit an image into the network's frame, keeping its aspect ratio, content at the top-left.

    Args:
        image: [h, w, 3] uint8.
        image_hw: height H and width W of the frame.
        antialias: as in ``resize``.

    Returns:
        image [H, W, 3] uint8, height and width of the content, and the scale: original pixels =
        network pixels * scale.
    """
    no_boxes, no_labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)
    frame = place(Example(image, no_boxes, no_labels), image_hw, antialias)
    return frame.image, frame.content_hw, frame.scale


def resize(image: np.ndarray, hw: tuple[int, int], antialias: bool = False) -> np.ndarray:
    """Resize an image [h, w, 3] uint8 to ``hw``, bilinear with half-pixel centres.

    Args:
        image: the image.
        hw: the new height and width.
        antialias: widen the filter when downscaling, as Pillow does, so that every pixel counts.
            The published recipe does not.
    """
    if not antialias:
        return cv2.resize(image, hw[::-1], interpolation=cv2.INTER_LINEAR)
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize(hw[::-1], Image.Resampling.BILINEAR))


def _scaled_hw(image: np.ndarray, factor: float) -> tuple[int, int]:
    # Truncated, but 511.9999999 is 512 with a rounding error; and a thin image keeps one pixel.
    height, width = (int(side * factor + 1e-6) for side in image.shape[:2])
    return max(1, height), max(1, width)


def _resize_top_left(
    image: np.ndarray, hw: tuple[int, int], corner: tuple[int, int], antialias: bool
) -> np.ndarray:
    """Return ``resize(image, hw, antialias)`` at least up to ``corner``, the same pixels.

    Only the bottom and right can be skipped: OpenCV cannot start between two pixels.
    """
    if antialias:
        return resize(image, hw, antialias)
    (h, w), (bottom, right) = image.shape[:2], corner
    # The last pixels before the corner are mixed from one more row and column.
    part = image[: -(-bottom * h // hw[0]) + 1, : -(-right * w // hw[1]) + 1]
    return cv2.resize(part, None, fx=hw[1] / w, fy=hw[0] / h, interpolation=cv2.INTER_LINEAR)
