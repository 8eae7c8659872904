"""Box codes against float64, and that decoding undoes encoding."""

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bifpn_jax import boxes as box_ops
from properties.strategies import any_boxes, arrays, float_boxes, floats, grid_boxes

N = 6  # the shape that is compiled
HALF_ULP = 2.0**-24  # the largest relative error of one float32 operation
LIBRARY = 4 * HALF_ULP  # of a logarithm or an exponential: two units in the last place

jitted_encode = jax.jit(box_ops.encode)
jitted_decode = jax.jit(box_ops.decode)


def centres_and_sides(boxes):
    """Centres and sides [N, 2] in float64."""
    near, far = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64)
    return (near + far) / 2, far - near


def codes_by_hand(boxes, anchors):
    """The definition, and by how much float32 may be off: two arrays [N, 4]."""
    (centre, side), (anchor_centre, anchor_side) = map(centres_and_sides, (boxes, anchors))
    offset, ratio = (centre - anchor_centre) / anchor_side, np.log(side / anchor_side)
    # Both centres are rounded; so are their difference, the anchor's side and the quotient.
    from_centres = (np.abs(centre) + np.abs(anchor_centre)) * HALF_ULP / anchor_side
    offset_error = from_centres + 4 * np.abs(offset) * HALF_ULP
    # Two sides and a quotient are off by 3 half ulps, which the logarithm turns into a sum.
    ratio_error = 4 * HALF_ULP + LIBRARY * np.abs(ratio)
    return np.concatenate([offset, ratio], 1), np.concatenate([offset_error, ratio_error], 1)


def boxes_by_hand(codes, anchors):
    """The inverse, and by how much float32 may be off: two arrays [N, 4]."""
    codes = codes.astype(np.float64)
    anchor_centre, anchor_side = centres_and_sides(anchors)
    moved = codes[:, :2] * anchor_side
    centre, half = anchor_centre + moved, np.exp(codes[:, 2:]) * anchor_side / 2
    centre_error = (np.abs(anchor_centre) + 3 * np.abs(moved) + np.abs(centre)) * HALF_ULP
    half_error = (3 * HALF_ULP + LIBRARY) * half
    edges = np.concatenate([centre - half, centre + half], axis=1)
    error = np.tile(centre_error + half_error, 2) + np.abs(edges) * HALF_ULP
    return edges, error


def assert_within(actual, expected, error):
    off = np.abs(np.asarray(actual, np.float64) - expected)
    assert (off <= error).all(), (actual, expected, off / error)


@given(float_boxes(N), float_boxes(N))
def test_codes_are_those_of_float64(boxes, anchors):
    expected, error = codes_by_hand(boxes, anchors)
    assert_within(box_ops.encode(boxes, anchors), expected, error)
    assert_within(jitted_encode(boxes, anchors), expected, error)


@given(arrays((N, 4), floats(-5, 5)), float_boxes(N))
def test_boxes_are_those_of_float64(codes, anchors):
    expected, error = boxes_by_hand(codes, anchors)
    assert_within(box_ops.decode(codes, anchors), expected, error)
    assert_within(jitted_decode(codes, anchors), expected, error)


@given(float_boxes(N), float_boxes(N))
def test_decoding_undoes_encoding(boxes, anchors):
    # The error of the codes, carried through the exact inverse, and that of decoding.
    codes, code_error = codes_by_hand(boxes, anchors)
    _, sides = centres_and_sides(boxes)
    _, anchor_sides = centres_and_sides(anchors)
    moved = code_error[:, :2] * anchor_sides + np.expm1(code_error[:, 2:]) * sides / 2
    _, error = boxes_by_hand(codes, anchors)
    total = 1.01 * (np.tile(moved, 2) + error)  # 1 % for products of errors
    assert_within(box_ops.decode(box_ops.encode(boxes, anchors), anchors), boxes, total)
    assert_within(jitted_decode(jitted_encode(boxes, anchors), anchors), boxes, total)


@given(arrays((N, 4), floats(-5, 5)), float_boxes(N, min_side=8))
def test_encoding_undoes_decoding(codes, anchors):
    # A box that is 150 times smaller than its anchor still has sides that float32 resolves.
    decoded = box_ops.decode(codes, anchors)
    _, error = boxes_by_hand(codes, anchors)
    (_, sides), (_, anchor_sides) = map(centres_and_sides, (decoded, anchors))
    _, code_error = codes_by_hand(decoded, anchors)
    of_edges = np.maximum(error[:, :2], error[:, 2:])
    from_edges = np.concatenate([of_edges / anchor_sides, -np.log1p(-2 * of_edges / sides)], 1)
    total = 1.01 * (from_edges + code_error)
    assert_within(box_ops.encode(decoded, anchors), codes.astype(np.float64), total)


@given(grid_boxes(N))
def test_an_anchor_has_the_code_zero(anchors):
    zero = np.zeros((N, 4), np.float32)
    np.testing.assert_array_equal(box_ops.encode(anchors, anchors), zero)
    np.testing.assert_array_equal(box_ops.decode(zero, anchors), anchors)
    np.testing.assert_array_equal(jitted_encode(anchors, anchors), zero)
    np.testing.assert_array_equal(jitted_decode(zero, anchors), anchors)


@given(float_boxes(N), float_boxes(N), st.integers(-4, 4))
def test_codes_do_not_change_with_the_scale_of_the_image(boxes, anchors, exponent):
    by = np.float32(2.0**exponent)  # changes no digit of a number
    codes = box_ops.encode(boxes, anchors)
    np.testing.assert_array_equal(box_ops.encode(boxes * by, anchors * by), codes)


@given(grid_boxes(N), grid_boxes(N), arrays(2, st.integers(-(2**16), 2**16), np.int32))
def test_codes_do_not_change_with_a_shift(boxes, anchors, shift):
    by = np.tile(shift, 2)[None].astype(np.float32)  # whole numbers, added without rounding
    codes = box_ops.encode(boxes, anchors)
    np.testing.assert_array_equal(box_ops.encode(boxes + by, anchors + by), codes)


@given(any_boxes(N, limit=1e6), any_boxes(N, limit=1e6))
def test_codes_of_empty_and_of_huge_boxes_are_finite(boxes, anchors):
    assert np.isfinite(box_ops.encode(boxes, anchors)).all()
    assert np.isfinite(jitted_encode(boxes, anchors)).all()


@given(
    arrays((N, 4), floats(-1e4, 1e4)),
    float_boxes(N),
    arrays(2, floats(1, 1000)),
)
def test_any_codes_give_boxes_inside_the_image_once_clipped(codes, anchors, hw):
    # Sizes are not limited: they may come out infinite, or zero.
    boxes = np.asarray(box_ops.clip(jitted_decode(codes, anchors), hw))
    assert ((boxes >= 0) & (boxes <= np.tile(hw, 2)[None])).all()
    assert (boxes[:, 2:] >= boxes[:, :2]).all()
