import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bifpn_jax.data.augment.augmentation import Example, Placing
from bifpn_jax.data.augment.flip import mirrored
from bifpn_jax.data.augment.placing import letterbox_image, place, resize
from bifpn_jax.data.augment.scale_jitter import SCALES, scale_jitter

NO_BOXES = np.zeros((0, 4), np.float32), np.zeros(0, np.int32)


def letterbox(image, boxes, labels, frame_hw, out=None):
    return place(Example(image, boxes, labels), frame_hw, out=out)


def scale_jitter_crop(image, boxes, labels, rng, frame_hw, scales=SCALES):
    return place(scale_jitter(Example(image, boxes, labels), rng, scales=scales), frame_hw)


def jitter_crop(image, boxes, labels, placing, frame_hw, antialias=False, out=None):
    return place(Example(image, boxes, labels, placing), frame_hw, antialias, out)


def bilinear(image: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """Half-pixel bilinear resize without antialiasing, edges repeated, written out."""

    def axis(size, target):
        position = np.clip((np.arange(target) + 0.5) * size / target - 0.5, 0, size - 1)
        low = np.minimum(position.astype(int), max(size - 2, 0))
        return low, np.minimum(low + 1, size - 1), position - low

    y0, y1, fy = axis(image.shape[0], hw[0])
    x0, x1, fx = axis(image.shape[1], hw[1])
    image = image.astype(float)
    rows = image[y0] * (1 - fy)[:, None, None] + image[y1] * fy[:, None, None]
    return rows[:, x0] * (1 - fx)[None, :, None] + rows[:, x1] * fx[None, :, None]


def found_box(image: np.ndarray) -> np.ndarray:
    bright = image[..., 0] > 127
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    return np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])


@st.composite
def marked_images(draw):
    """A black image with one white rectangle, its box and its label."""
    height, width = draw(st.integers(24, 160)), draw(st.integers(24, 160))
    h, w = draw(st.integers(height // 3, height)), draw(st.integers(width // 3, width))
    y, x = draw(st.integers(0, height - h)), draw(st.integers(0, width - w))
    image = np.zeros((height, width, 3), np.uint8)
    image[y : y + h, x : x + w] = 255
    return image, np.array([[y, x, y + h, x + w]], np.float32), np.array([3], np.int32)


FRAMES = st.tuples(st.integers(32, 128), st.integers(32, 128))
PROPERTY = settings(max_examples=50, deadline=None)


@given(marked_images())
@PROPERTY
def test_flip_moves_boxes_with_their_pixels(marked):
    image, boxes, labels = marked
    flipped = mirrored(Example(image, boxes, labels))
    np.testing.assert_array_equal(found_box(flipped.image), flipped.boxes[0])
    back, back_boxes, *_ = mirrored(flipped)
    np.testing.assert_array_equal(back, image)
    np.testing.assert_array_equal(back_boxes, boxes)


@given(marked_images(), FRAMES)
@PROPERTY
def test_letterbox_moves_boxes_with_their_pixels(marked, frame_hw):
    image, boxes, labels = marked
    example = letterbox(image, boxes, labels, frame_hw)
    assert example.image.shape == (*frame_hw, 3)
    assert example.image.dtype == np.uint8
    assert example.boxes.dtype == np.float32
    np.testing.assert_allclose(found_box(example.image), example.boxes[0], atol=1.5)
    np.testing.assert_allclose(example.boxes * example.scale, boxes, atol=2.5 * example.scale)
    assert example.labels.tolist() == [3]
    assert max(np.divide(example.content_hw, frame_hw)) == 1


@given(marked_images(), FRAMES, st.integers(0, 2**32 - 1))
@PROPERTY
def test_jitter_moves_boxes_with_their_pixels(marked, frame_hw, seed):
    image, boxes, labels = marked
    rng = np.random.default_rng(seed)
    example = scale_jitter_crop(image, boxes, labels, rng, frame_hw, (0.4, 2.0))
    assert example.image.shape == (*frame_hw, 3)
    height, width = example.content_hw
    assert not example.image[height:].any()
    assert not example.image[:, width:].any()
    assert len(example.boxes) == len(example.labels)
    if not len(example.boxes):
        return  # cropped away
    assert (example.boxes >= 0).all()
    assert (example.boxes[:, 2:] <= np.array(frame_hw)[None] - 1).all()
    if (example.boxes[0, 2:] - example.boxes[0, :2]).min() > 2:
        np.testing.assert_allclose(found_box(example.image), example.boxes[0], atol=1.5)


@given(st.integers(0, 2**32 - 1), FRAMES)
@PROPERTY
def test_jitter_is_the_published_arithmetic(seed, frame_hw):
    height, width = 90, 120
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    boxes = np.array([[0, 0, 90, 120], [10, 20, 40.5, 60], [80, 100, 90, 120]], np.float32)
    labels = np.arange(3, dtype=np.int32)
    example = scale_jitter_crop(image, boxes, labels, np.random.default_rng(seed), frame_hw)

    rng = np.random.default_rng(seed)
    s, across_y, across_x = rng.uniform(0.1, 2.0), rng.random(), rng.random()
    factor = min(int(s * frame_hw[0]) / height, int(s * frame_hw[1]) / width)
    scaled = int(height * factor + 1e-6), int(width * factor + 1e-6)
    top = int(max(0, scaled[0] - frame_hw[0]) * across_y)
    left = int(max(0, scaled[1] - frame_hw[1]) * across_x)
    content = bilinear(image, scaled)[top : top + frame_hw[0], left : left + frame_hw[1]]
    assert example.content_hw == content.shape[:2]
    got = example.image[: content.shape[0], : content.shape[1]]
    assert np.abs(got - content).max() <= 1
    assert example.scale == 1 / factor

    sides = np.array([*scaled, *scaled]) / np.array([height, width] * 2)
    expected = boxes * sides[None] - np.array([top, left, top, left])[None]
    expected = np.clip(expected, 0, np.array([*frame_hw, *frame_hw])[None] - 1)
    kept = ((expected[:, 2] > expected[:, 0]) & (expected[:, 3] > expected[:, 1])).tolist()
    np.testing.assert_allclose(example.boxes, expected[kept], rtol=1e-6, atol=1e-4)
    assert example.labels.tolist() == [i for i in range(3) if kept[i]]


@given(st.tuples(st.integers(8, 200), st.integers(8, 200)), FRAMES, st.data())
@PROPERTY
def test_what_is_cut_away_need_not_be_resized(image_hw, frame_hw, data):
    image = np.random.default_rng(1).integers(0, 256, (*image_hw, 3), np.uint8)
    ends = st.sampled_from([0.0, 0.5, 1 - 2**-53]) | st.floats(0, 1, exclude_max=True)
    jitter = Placing(data.draw(st.floats(0.1, 3.0)), (data.draw(ends), data.draw(ends)))
    antialias = data.draw(st.booleans())
    example = jitter_crop(image, *NO_BOXES, jitter, frame_hw, antialias)

    scaled_hw = tuple(max(1, int(side / example.scale + 1e-6)) for side in image_hw)
    whole = resize(image, scaled_hw, antialias)
    excess = [max(0, whole.shape[axis] - frame_hw[axis]) for axis in (0, 1)]
    top, left = (int(x * across) for x, across in zip(excess, jitter.across, strict=True))
    expected = whole[top : top + frame_hw[0], left : left + frame_hw[1]].astype(int)
    assert example.content_hw == expected.shape[:2]
    got = example.image[: expected.shape[0], : expected.shape[1]]
    assert np.abs(got - expected).max() <= 1


@pytest.mark.parametrize("scale", [0.3, 1.0, 1.7])
def test_a_frame_is_written_over_whatever_was_there(scale):
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    jitter = Placing(scale, (0.4, 0.6))
    batch = np.full((3, 64, 80, 3), 77, np.uint8)
    example = jitter_crop(image, *NO_BOXES, jitter, (64, 80), out=batch[1])
    assert np.shares_memory(example.image, batch[1])
    np.testing.assert_array_equal(batch[1], jitter_crop(image, *NO_BOXES, jitter, (64, 80)).image)
    letterbox(image, *NO_BOXES, (64, 80), out=batch[2])
    np.testing.assert_array_equal(batch[2], letterbox_image(image, (64, 80))[0])
    assert (batch[0] == 77).all()


def test_jitter_covers_its_range():
    image = np.zeros((100, 100, 3), np.uint8)
    rng = np.random.default_rng(0)
    scales = [
        1 / scale_jitter_crop(image, *NO_BOXES, rng, (100, 100), (0.1, 2.0)).scale
        for _ in range(300)
    ]
    assert 0.1 <= min(scales) < 0.15
    assert 1.95 < max(scales) <= 2.0
    assert abs(np.mean(scales) - 1.05) < 0.1


def test_jitter_of_one_is_a_letterbox():
    image = np.random.default_rng(0).integers(0, 256, (77, 130, 3), np.uint8)
    boxes, labels = np.array([[3, 4, 50, 60]], np.float32), np.array([1], np.int32)
    a = scale_jitter_crop(image, boxes, labels, np.random.default_rng(0), (96, 64), (1.0, 1.0))
    b = letterbox(image, boxes, labels, (96, 64))
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    ("image_hw", "frame_hw", "content_hw", "scale"),
    [
        ((480, 640), (512, 512), (384, 512), 1.25),
        ((640, 480), (512, 512), (512, 384), 1.25),
        ((512, 512), (512, 512), (512, 512), 1.0),
        ((256, 256), (512, 512), (512, 512), 0.5),
        ((427, 640), (512, 512), (341, 512), 1.25),  # 341.6: truncated
        ((333, 333), (512, 512), (512, 512), 333 / 512),  # 333 / 333 * 512 may be 511.999...
        ((480, 640), (256, 384), (256, 341), 1.875),
        ((480, 640), (640, 320), (240, 320), 2.0),
        ((2000, 3), (64, 64), (64, 1), 31.25),  # 0.096 pixels wide: one is left
        ((1, 1), (64, 32), (32, 32), 1 / 32),
    ],
)
def test_letterbox_sizes(image_hw, frame_hw, content_hw, scale):
    image = np.full((*image_hw, 3), 200, np.uint8)
    frame, content, got = letterbox_image(image, frame_hw)
    assert frame.shape == (*frame_hw, 3)
    assert content == content_hw
    assert got == pytest.approx(scale)
    assert (frame[: content[0], : content[1]] == 200).all()
    assert frame.sum() == 200 * 3 * content[0] * content[1]


@pytest.mark.parametrize("image_hw", [(48, 64), (90, 31), (200, 200)])
def test_letterbox_resizes_bilinearly_without_antialiasing(image_hw):
    image = np.random.default_rng(0).integers(0, 256, (*image_hw, 3), np.uint8)
    frame, (h, w), _ = letterbox_image(image, (80, 72))
    assert np.abs(frame[:h, :w] - bilinear(image, (h, w))).max() <= 1


def test_boxes_of_which_nothing_is_left_are_removed():
    image = np.zeros((10, 10, 3), np.uint8)
    boxes = np.array([[0, 0, 5, 5], [3, 3, 3, 8], [9.5, 0, 10, 10], [9, 9, 10, 10]], np.float32)
    example = letterbox(image, boxes, np.arange(4, dtype=np.int32), (10, 10))
    assert example.labels.tolist() == [0]  # the last two lie beyond size - 1
