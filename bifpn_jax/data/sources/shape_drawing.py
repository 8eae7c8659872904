"""Drawn images for detection: overlapping shapes of four classes on textured backgrounds.

A small detection problem that needs no download: sizes from a few pixels to the whole image,
occlusion, clutter, empty images. Every image is a pure function of its random generator.
"""

import cv2
import numpy as np

CLASSES = ("circle", "rectangle", "triangle", "cross")

_SMALLEST = 6.0  # radius in pixels of the smallest shape
_MOST_TURN = np.deg2rad(20)  # largest rotation of a shape from upright
_VISIBLE = 0.6  # an object is kept if at least this share of its pixels is visible
_SUBPIXEL = 4  # cv2's fixed-point bits for the corners of a polygon


def draw_image(
    rng: np.random.Generator, sides: tuple[int, int] = (80, 112), max_shapes: int = 5
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw one image.

    Args:
        rng: the source of all randomness.
        sides: minimum and maximum of height and width.
        max_shapes: maximum number of shapes; about one image in twelve has none.

    Returns:
        image [H, W, 3] uint8; boxes [N, 4] float32 yxyx, each around the whole shape, including the
        part that others cover, clipped to the image; labels [N] int32, indices into CLASSES;
        visible areas [N] float32 in pixels. A shape of which less than 60 % is visible is not an
        object.
    """
    height, width = (int(side) for side in rng.integers(sides[0], sides[1] + 1, 2))
    image = _draw_background(rng, height, width)
    count = 0 if rng.random() < 1 / 12 else int(rng.integers(1, max_shapes + 1))
    # Radii are log-uniform; the largest shapes fill the image and lie at the back.
    radii = np.exp(rng.uniform(np.log(_SMALLEST), np.log(0.55 * min(height, width)), count))
    boxes, labels, covers = [], [], []
    for radius in sorted(radii, reverse=True):
        labels.append(int(rng.integers(len(CLASSES))))
        centre = rng.uniform((0.1 * height, 0.1 * width), (0.9 * height, 0.9 * width))
        cover = _draw_cover(rng, CLASSES[labels[-1]], centre, radius, height, width)
        boxes.append(_bounds(cover >= 128))
        y0, x0, y1, x1 = boxes[-1]
        _paint(rng, image[y0:y1, x0:x1], cover[y0:y1, x0:x1])
        covers.append(cover >= 128)
    grain = rng.standard_normal((height, width, 1), np.float32)
    image += grain * np.float32(rng.uniform(1, 6))
    visible = _visible_areas(covers)
    kept = [i for i, cover in enumerate(covers) if visible[i] >= _VISIBLE * cover.sum()]
    return (
        np.clip(image, 0, 255, out=image).astype(np.uint8),
        np.array([boxes[i] for i in kept], np.float32).reshape(-1, 4),
        np.array([labels[i] for i in kept], np.int32),
        np.array([visible[i] for i in kept], np.float32),
    )


def _visible_areas(covers: list[np.ndarray]) -> list[int]:
    """Return the number of pixels of each shape that no later one covers."""
    areas, hidden = [], False
    for cover in reversed(covers):
        areas.append(int((cover & ~np.asarray(hidden)).sum()))
        hidden = cover | hidden
    return areas[::-1]


def _bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _draw_cover(
    rng: np.random.Generator,
    name: str,
    centre: np.ndarray,
    radius: float,
    height: int,
    width: int,
) -> np.ndarray:
    """Return how much of each pixel a shape covers: [H, W] uint8, 255 = all of it."""
    turn = rng.uniform(-_MOST_TURN, _MOST_TURN)
    if name == "circle":
        corners = _polar(np.linspace(0, 2 * np.pi, 48, endpoint=False), 1.0)
    elif name == "rectangle":
        half = np.array([rng.uniform(0.35, 1.0), 1.0])
        corners = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * half[None] * 0.8
    elif name == "triangle":
        corners = _polar((np.arange(3) * 2 / 3 - 1 / 2) * np.pi, 1.1)
    else:
        arm = rng.uniform(0.2, 0.32)
        quarter = np.array([[-1, -arm], [-1, arm], [-arm, arm]])
        turns = [np.linalg.matrix_power([[0, -1], [1, 0]], k) for k in range(4)]
        corners = np.concatenate([quarter @ t.T for t in turns[::-1]])
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    corners = (corners @ rotation.T) * radius + centre[None]
    cover = np.zeros((height, width), np.uint8)
    fixed = np.round((corners[:, ::-1] - 0.5) * 2**_SUBPIXEL).astype(np.int32)
    cv2.fillPoly(cover, [fixed], 255, lineType=cv2.LINE_AA, shift=_SUBPIXEL)
    return cover


def _polar(angles: np.ndarray, radius: float) -> np.ndarray:
    return np.stack([np.sin(angles), np.cos(angles)], axis=1) * radius


def _paint(rng: np.random.Generator, image: np.ndarray, cover: np.ndarray) -> None:
    """Blend a shape into the image, in a textured colour that differs from what is below it."""
    alpha = (cover.astype(np.float32) / 255)[..., None]
    under = (image * alpha).sum((0, 1)) / max(float(alpha.sum()), 1.0)
    colour = rng.uniform(0, 255, 3)
    while np.linalg.norm(colour - under) < 100:
        colour = rng.uniform(0, 255, 3)
    shade = np.float32(0.3) * (_texture(rng, *cover.shape) - 128)
    image += alpha * (colour.astype(np.float32)[None, None] + shade - image)


def _draw_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return a texture between two colours with a few thin lines: [H, W, 3] float32."""
    low, high = rng.uniform(20, 235, (2, 3)).astype(np.float32)
    image = low[None, None] + _texture(rng, height, width) / 255 * (high - low)[None, None]
    for _ in range(int(rng.integers(0, 6))):
        ends = rng.integers(0, (width, height), (2, 2))
        colour = rng.uniform(0, 255, 3).tolist()
        cv2.line(image, ends[0].tolist(), ends[1].tolist(), colour, int(rng.integers(1, 3)))
    return image


def _texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return a grey texture [H, W, 1] float32 in 0..255: blotches, stripes or a gradient."""
    kind = rng.integers(3)
    if kind == 0:
        cells = rng.integers(3, 24, 2)
        noise = rng.uniform(0, 255, tuple(cells)).astype(np.float32)
        return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    angle = rng.uniform(0, np.pi)
    y = np.arange(height, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    x = np.arange(width, dtype=np.float32)[None, :] * np.float32(np.cos(angle))
    along = (y + x)[..., None]
    if kind == 1:
        period = rng.uniform(4, 30)
        return np.float32(127.5) + np.float32(127.5) * np.sin(
            along * np.float32(2 * np.pi / period)
        )
    along -= along.min()
    return along * np.float32(255 / max(float(along.max()), 1.0))
