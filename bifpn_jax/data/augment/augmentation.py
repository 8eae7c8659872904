"""The interface of augmentations.

An augmentation is a function ``(example, rng) -> example`` that changes a training image with its
boxes before it is placed into the network's frame:

    def brightness(example, rng, *, by=0.2):
        factor = rng.uniform(1 - by, 1 + by)
        image = np.clip(example.image * factor, 0, 255).astype(np.uint8)
        return example._replace(image=image)

Its settings are keywords with defaults, bound with ``functools.partial``. All randomness must come
from ``rng``, and no state may be kept between calls: an image is augmented the same way for any
number of threads and processes, and after a run is resumed. It returns

    image    [h, w, 3] uint8, of any size
    boxes    [N, 4] float32 yxyx in pixels of that image, inside of it
    labels   [N] int32
    placing  how the image is placed into the frame, see ``Placing``

To scale an image, set ``placing``: pixels are resampled once, when the image is placed. Boxes of
which nothing is left then are removed.

An augmentation gets these if its signature has a keyword of that name:

    more      a function without arguments that returns another example of the same data, before
              augmentation, chosen with ``rng``; for augmentations that mix images
    image_hw  height and width of the network's frame in pixels
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

# Example, np.random.Generator -> Example; see above.
Augmentation = Callable[..., "Example"]

OFFERED = ("more", "image_hw")

_ROUNDING = 0.01  # pixels that a box may reach out of its image


class Placing(NamedTuple):
    """How an image is placed into the network's frame; by default, the whole image just fits.

    Attributes:
        scale: size relative to that at which the whole image just fits; above 0.
        across: the position of the frame on an image that is larger, vertical and horizontal: from
            0 at the top and left to 1 at the bottom and right.
    """

    scale: float = 1.0
    across: tuple[float, float] = (0.0, 0.0)


class Example(NamedTuple):
    """An image with its N boxes.

    Attributes:
        image: [h, w, 3] uint8 RGB.
        boxes: [N, 4] float32 yxyx, pixels of the image.
        labels: [N] int32.
        placing: how it is placed into the network's frame.
    """

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    placing: Placing = Placing()


def fault(example: Any) -> str:
    """Return what is wrong with the result of an augmentation, to end a sentence; "" if nothing.

    Args:
        example: the result.
    """
    if not isinstance(example, Example):
        return f"returns {type(example).__name__}, not an Example (use example._replace)"
    image, boxes, labels, placing = example
    if not _is_array(image, np.uint8, 3) or image.shape[2] != 3 or not image.size:
        return f"makes the image {_described(image)}, not uint8 [h, w, 3]"
    if not _is_array(boxes, np.float32, 2) or boxes.shape[1] != 4:
        return f"makes the boxes {_described(boxes)}, not float32 [N, 4]"
    if not _is_array(labels, np.int32, 1) or len(labels) != len(boxes):
        return f"makes the labels {_described(labels)}, not int32 [{len(boxes)}]"
    if (labels < 0).any():
        return f"makes the label {labels.min()}, not the number of a class"
    ordered = (boxes[:, :2] <= boxes[:, 2:]).all()
    limit = np.array(image.shape[:2], np.float32)[None] + _ROUNDING
    if not (ordered and (boxes[:, :2] >= -_ROUNDING).all() and (boxes[:, 2:] <= limit).all()):
        height, width = image.shape[:2]
        return f"makes boxes that are not y0 <= y1, x0 <= x1 within the image of {width}x{height}"
    if not isinstance(placing, Placing) or not 0 < placing.scale < np.inf:
        return f"sets placing to {placing!r}, not to a Placing with a scale above 0"
    if len(placing.across) != 2 or not all(0 <= part <= 1 for part in placing.across):
        return f"sets placing.across to {placing.across!r}, not to two numbers from 0 to 1"
    return ""


def _is_array(value: Any, dtype: type, ndim: int) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == dtype and value.ndim == ndim


def _described(value: Any) -> str:
    """Return the type and shape of an array, or the repr of any other value."""
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else repr(value)
