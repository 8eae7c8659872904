"""What the properties are checked on: boxes, and images with coloured rectangles.

The number of boxes is fixed by the caller, because every new shape would be compiled.
"""

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

GRID = 16
"""Whole-number boxes lie in [0, GRID], so that they meet, touch, repeat and contain each other."""

SMALLEST_SIDE = 2.0**-10

# The corners of the colour cube but black. Mixed with each other and with black, no two of them
# give a third, so that a pixel that shows one of them is of that rectangle alone.
COLOURS = np.array(
    [
        [255, 0, 0],
        [0, 255, 0],
        [0, 0, 255],
        [255, 255, 0],
        [255, 0, 255],
        [0, 255, 255],
        [255, 255, 255],
    ],
    np.uint8,
)


def floats(low, high):
    """Float32 numbers; no subnormal ones, which compiled programs take for zero."""
    return st.floats(low, high, width=32, allow_subnormal=False)


def arrays(shape, elements, dtype=np.float32):
    """Arrays of which every element is drawn by itself."""
    return hnp.arrays(dtype, shape, elements=elements, fill=st.nothing())


@st.composite
def float_boxes(draw, n, min_side=SMALLEST_SIDE):
    """Boxes [n, 4] float32 at any place in [-1000, 1000], sides from about min_side to 500."""
    corners = draw(arrays((n, 2), floats(-1000, 1000)))
    sides = draw(arrays((n, 2), floats(min_side, 500)))
    return np.concatenate([corners, corners + sides], axis=1)


def any_boxes(n, limit=1000.0):
    """Four numbers [n, 4] float32 in any order: boxes that may be empty or inside out."""
    return arrays((n, 4), floats(-limit, limit))


@st.composite
def grid_boxes(draw, n, min_side=1):
    """Boxes [n, 4] float32 with whole corners in [0, GRID]; often one of them occurs repeatedly."""
    corners = draw(arrays((n, 2), st.integers(0, GRID - min_side), np.int64))
    sides = draw(arrays((n, 2), st.integers(min_side, GRID), np.int64))
    boxes = np.concatenate([corners, np.minimum(corners + sides, GRID)], axis=1)
    again = draw(st.permutations(range(n)))[: draw(st.integers(0, n // 2 + 1))]
    boxes[again] = boxes[draw(st.integers(0, n - 1))]
    return boxes.astype(np.float32)


class Painted(NamedTuple):
    """Rectangles of one colour each on black; the label is the row of COLOURS."""

    image: np.ndarray
    """[H, W, 3] uint8."""
    boxes: np.ndarray
    """[N, 4] float32, N may be 0."""
    labels: np.ndarray
    """[N] int32."""


@st.composite
def painted_images(draw, largest=120):
    """Images with up to four rectangles that do not overlap, though they may touch."""
    height, width = draw(st.tuples(*[st.integers(1, largest)] * 2))
    cuts = draw(st.sets(st.integers(0, height), max_size=3))
    edges = sorted(cuts | {0, height})
    image, boxes, labels = np.zeros((height, width, 3), np.uint8), [], []
    colours = draw(st.permutations(range(len(COLOURS))))
    for top, bottom, label in zip(edges, edges[1:], colours, strict=False):
        y0, y1 = sorted(draw(st.tuples(*[st.integers(top, bottom)] * 2)))
        x0, x1 = sorted(draw(st.tuples(*[st.integers(0, width)] * 2)))
        if y0 < y1 and x0 < x1:
            image[y0:y1, x0:x1] = COLOURS[label]
            boxes.append([y0, x0, y1, x1])
            labels.append(label)
    return Painted(image, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int32))
