import numpy as np
import pytest

from bifpn_jax.anchors import anchor_grid, level_shapes
from bifpn_jax.errors import UserError

# (size, max_level) -> number of anchors, as published for d0, d1, ... d7, d7x and lite0.
PUBLISHED_COUNTS = [
    (512, 7, 49104),
    (640, 7, 76725),
    (768, 7, 110484),
    (896, 7, 150381),
    (1024, 7, 196416),
    (1280, 7, 306900),
    (1536, 7, 441936),
    (1536, 8, 442260),
    (320, 7, 19206),
]


@pytest.mark.parametrize(("size", "max_level", "count"), PUBLISHED_COUNTS)
def test_published_number_of_anchors(size, max_level, count):
    shapes = level_shapes((size, size), 3, max_level)
    assert 9 * sum(h * w for h, w in shapes) == count


def test_every_level_halves_and_rounds_up():
    assert level_shapes((65, 200), 0, 7)[:4] == [(65, 200), (33, 100), (17, 50), (9, 25)]
    h, w = 511, 513
    halved = []
    for _ in range(7):
        h, w = (h - 1) // 2 + 1, (w - 1) // 2 + 1
        halved.append((h, w))
    assert level_shapes((511, 513), 3, 7) == halved[2:]


def test_published_anchors_at_the_first_location():
    pairs = anchor_grid((512, 512))
    assert pairs.dtype == np.float32
    expected = [[-12, -12, 20, 20], [-7.2, -18.4, 15.2, 26.4], [-18.4, -7.2, 26.4, 15.2]]
    np.testing.assert_allclose(pairs[:3], expected, atol=1e-5)

    numbers = anchor_grid((512, 512), aspect_ratios=(1.0, 2.0, 0.5))
    expected = [
        [-12, -12, 20, 20],
        [-7.3137, -18.6274, 15.3137, 26.6274],
        [-18.6274, -7.3137, 26.6274, 15.3137],
        [-16.1587, -16.1587, 24.1587, 24.1587],
    ]
    np.testing.assert_allclose(numbers[:4], expected, atol=1e-4)


def test_order_is_level_y_x_octave_aspect():
    image_hw, ratios = (40, 72), (1.0, (3.0, 0.5))
    grid = anchor_grid(
        image_hw, min_level=3, max_level=4, anchor_scale=(2, 3), num_scales=2, aspect_ratios=ratios
    )
    rows = []
    for level_scale, (h, w) in zip((2, 3), [(5, 9), (3, 5)], strict=True):
        stride_y, stride_x = 40 / h, 72 / w
        for y in range(h):
            for x in range(w):
                for octave in (1, 2**0.5):
                    for w_factor, h_factor in ((1, 1), (3, 0.5)):
                        half_h = level_scale * stride_y * octave * h_factor / 2
                        half_w = level_scale * stride_x * octave * w_factor / 2
                        cy, cx = (y + 0.5) * stride_y, (x + 0.5) * stride_x
                        rows.append([cy - half_h, cx - half_w, cy + half_h, cx + half_w])
    np.testing.assert_allclose(grid, rows, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("image_hw", [(1, 1), (97, 130), (511, 513), (128, 1000)])
def test_any_image_size(image_hw):
    grid = anchor_grid(image_hw)
    assert len(grid) == 9 * sum(h * w for h, w in level_shapes(image_hw, 3, 7))
    centres = (grid[:, :2] + grid[:, 2:]) / 2
    assert (centres > 0).all()
    assert (centres < np.array([image_hw])).all()
    assert (grid[:, 2:] > grid[:, :2]).all()


def test_one_scale_for_all_levels_equals_a_list_of_it():
    one = anchor_grid((64, 96), anchor_scale=5)
    np.testing.assert_array_equal(one, anchor_grid((64, 96), anchor_scale=[5.0] * 5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_hw": (0, 64)}, "image size 0 x 64"),
        ({"min_level": 5, "max_level": 4}, "levels 5 to 4"),
        ({"min_level": -1}, "levels -1 to 7"),
        ({"anchor_scale": (4.0, 4.0)}, "2 entries for 5 levels"),
        ({"anchor_scale": -1.0}, "must be positive"),
        ({"anchor_scale": float("nan")}, "must be positive"),
        ({"num_scales": 0}, "num_scales = 0"),
        ({"aspect_ratios": ()}, "aspect_ratios is empty"),
        ({"aspect_ratios": (1.0, 0.0)}, "aspect ratio 0.0"),
        ({"aspect_ratios": ((1.0, 2.0, 3.0),)}, "aspect ratio (1.0, 2.0, 3.0)"),
        ({"aspect_ratios": ((1.0, -2.0),)}, "aspect ratio (1.0, -2.0)"),
    ],
)
def test_bad_arguments_get_one_line(arguments, message):
    with pytest.raises(UserError) as error:
        anchor_grid(**{"image_hw": (64, 64), **arguments})
    assert message in str(error.value)
    assert "\n" not in str(error.value)
