"""Areas, overlaps and clipping against float64, and what must not change them."""

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bifpn_jax import boxes as box_ops
from properties.overlap import area_by_hand, intersections_by_hand, iou_by_hand
from properties.strategies import (
    GRID,
    SMALLEST_SIDE,
    any_boxes,
    arrays,
    float_boxes,
    floats,
    grid_boxes,
)

N, M = 5, 6  # the shapes that are compiled
HALF_ULP = 2.0**-24  # the largest relative error of one float32 operation

# Two sides, one product.
AREA_ERROR = 3 * HALF_ULP
# The intersection is off by 3 half ulps. In the union so are both areas, of which the sum is at
# most two unions, and their sum and the difference are rounded: 2 * (3 + 1) + 3 + 1. The quotient
# is rounded once more; one is for products of errors.
IOU_ERROR = (3 + 12 + 1 + 1) * HALF_ULP
# An intersection below the smallest float32 counts as none.
IOU_UNDERFLOW = float(np.finfo(np.float32).tiny) / (SMALLEST_SIDE / 2) ** 2

jitted_iou = jax.jit(box_ops.pairwise_iou)
jitted_clip = jax.jit(box_ops.clip)
image_sizes = arrays(2, floats(1, 1000))


@given(float_boxes(N))
def test_areas_are_those_of_float64(boxes):
    np.testing.assert_allclose(box_ops.area(boxes), area_by_hand(boxes), rtol=AREA_ERROR)


@given(any_boxes(N), any_boxes(M))
def test_a_box_without_height_or_width_has_no_area_and_overlaps_nothing(a, b):
    empty = ~(a[:, 2:] > a[:, :2]).all(axis=1)
    assert (box_ops.area(a)[empty] == 0).all()
    assert (box_ops.area(a) >= 0).all()
    assert (box_ops.pairwise_iou(a, b)[empty] == 0).all()
    assert (box_ops.pairwise_iou(b, a)[:, empty] == 0).all()


@given(float_boxes(N), float_boxes(M))
def test_iou_is_that_of_float64(a, b):
    expected = iou_by_hand(a, b)
    tolerance = {"rtol": IOU_ERROR, "atol": IOU_UNDERFLOW}
    np.testing.assert_allclose(box_ops.pairwise_iou(a, b), expected, **tolerance)
    np.testing.assert_allclose(jitted_iou(a, b), expected, **tolerance)


@given(any_boxes(N) | float_boxes(N) | grid_boxes(N), any_boxes(M) | grid_boxes(M))
def test_iou_is_symmetric_and_between_zero_and_one(a, b):
    iou = box_ops.pairwise_iou(a, b)
    assert ((iou >= 0) & (iou <= 1)).all()
    np.testing.assert_array_equal(iou, box_ops.pairwise_iou(b, a).T)
    np.testing.assert_array_equal(jitted_iou(a, b), jitted_iou(b, a).T)


@given(float_boxes(N))
def test_iou_of_a_box_with_itself_is_one(boxes):
    np.testing.assert_array_equal(np.diag(box_ops.pairwise_iou(boxes, boxes)), 1)


@given(grid_boxes(N), grid_boxes(M))
def test_iou_is_one_only_with_an_equal_box(a, b):
    equal = (a[:, None] == b[None]).all(axis=-1)
    np.testing.assert_array_equal(box_ops.pairwise_iou(a, b) == 1, equal)


@given(float_boxes(N), floats(0, 500), st.integers(0, 1), st.booleans())
def test_iou_of_boxes_side_by_side_is_zero(boxes, gap, axis, before):
    # The other box begins where this one ends, or further away.
    beside = boxes.copy()
    side = boxes[:, 2 + axis] - boxes[:, axis]
    if before:
        beside[:, 2 + axis] = boxes[:, axis] - gap
        beside[:, axis] = beside[:, 2 + axis] - side
    else:
        beside[:, axis] = boxes[:, 2 + axis] + gap
        beside[:, 2 + axis] = beside[:, axis] + side
    np.testing.assert_array_equal(np.diag(box_ops.pairwise_iou(boxes, beside)), 0)


@given(grid_boxes(N), grid_boxes(M), arrays(2, st.integers(-(2**16), 2**16), np.int32))
def test_iou_does_not_change_with_a_shift(a, b, shift):
    # Whole numbers of this size are added without rounding, so that not a bit may differ.
    by = np.tile(shift, 2)[None].astype(np.float32)
    np.testing.assert_array_equal(box_ops.pairwise_iou(a + by, b + by), box_ops.pairwise_iou(a, b))


@given(float_boxes(N), float_boxes(M), arrays(2, st.integers(0, 8), np.int32))
def test_iou_does_not_change_with_a_scale_of_either_axis(a, b, exponents):
    # Powers of two change no digit of a number, so that not a bit may differ.
    by = np.tile(np.exp2(exponents), 2)[None].astype(np.float32)
    scaled = box_ops.pairwise_iou(a * by, b * by)
    np.testing.assert_allclose(scaled, box_ops.pairwise_iou(a, b), rtol=0, atol=IOU_UNDERFLOW)


@given(float_boxes(N), float_boxes(M))
def test_iou_does_not_change_when_the_axes_swap(a, b):
    swapped = [1, 0, 3, 2]
    iou = box_ops.pairwise_iou(a[:, swapped], b[:, swapped])
    np.testing.assert_array_equal(iou, box_ops.pairwise_iou(a, b))


@given(any_boxes(N), image_sizes)
def test_clipping_cuts_every_coordinate_to_the_image(boxes, hw):
    clipped = box_ops.clip(boxes, hw)
    np.testing.assert_array_equal(clipped, np.minimum(np.maximum(boxes, 0), np.tile(hw, 2)[None]))
    np.testing.assert_array_equal(jitted_clip(boxes, hw), clipped)
    np.testing.assert_array_equal(box_ops.clip(clipped, hw), clipped)


@given(float_boxes(N), image_sizes)
def test_a_clipped_box_is_what_the_box_shares_with_the_image(boxes, hw):
    image = np.concatenate([np.zeros(2, np.float32), hw])[None]
    shared = intersections_by_hand(boxes, image)[:, 0]
    # Clipping does not round, so that only the area does.
    tiny = float(np.finfo(np.float32).tiny)
    np.testing.assert_allclose(
        box_ops.area(box_ops.clip(boxes, hw)), shared, rtol=AREA_ERROR, atol=tiny
    )


@given(any_boxes(N), image_sizes, image_sizes)
def test_every_image_of_a_batch_is_clipped_to_its_own_size(boxes, hw, other_hw):
    batch = box_ops.clip(np.stack([boxes, boxes]), np.stack([hw, other_hw]))
    np.testing.assert_array_equal(batch[0], box_ops.clip(boxes, hw))
    np.testing.assert_array_equal(batch[1], box_ops.clip(boxes, other_hw))


@given(float_boxes(N) | grid_boxes(N))
def test_boxes_come_back_from_the_format_of_coco(boxes):
    boxes = boxes.astype(np.float64)
    x, y, width, height = box_ops.to_xywh(boxes).T
    np.testing.assert_array_equal(np.stack([y, x], axis=1), boxes[:, :2])
    np.testing.assert_array_equal(height * width, box_ops.area(boxes))
    # The sum undoes the difference up to one rounding of a double for each of the two.
    again = box_ops.from_xywh(box_ops.to_xywh(boxes))
    np.testing.assert_allclose(again, boxes, rtol=0, atol=4 * np.spacing(2000.0))


@given(grid_boxes(N))
def test_iou_with_a_frame_around_all_boxes_is_their_share_of_it(boxes):
    frame = np.array([[0, 0, GRID, GRID]], np.float32)
    share = box_ops.pairwise_iou(frame, boxes)[0]
    np.testing.assert_array_equal(share, area_by_hand(boxes) / GRID**2)
