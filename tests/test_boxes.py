import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bifpn_jax import boxes as box_ops
from bifpn_jax.anchors import anchor_grid

coordinate = st.floats(-1000, 1000, width=32)


def box_arrays(min_side=0.0):
    """Arrays [n, 4] of proper boxes, n = 1..8, sides from min_side to 500 pixels."""

    def build(n):
        corner = hnp.arrays(np.float32, (n, 2), elements=coordinate)
        side = hnp.arrays(np.float32, (n, 2), elements=st.floats(min_side, 500, width=32))
        return st.tuples(corner, side).map(lambda cs: np.concatenate([cs[0], cs[0] + cs[1]], 1))

    return st.integers(1, 8).flatmap(build)


def iou_by_hand(a, b):
    h = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    w = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    inter = h * w
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return inter / union if inter > 0 else 0.0


def random_boxes(rng, n, size=100.0):
    corners = np.sort(rng.uniform(0, size, (n, 2, 2)), axis=1)
    return corners.reshape(n, 4).astype(np.float32)


def test_area_is_zero_where_a_box_is_empty_or_inside_out():
    boxes = np.array([[0, 0, 2, 3], [1, 1, 1, 5], [5, 0, 2, 3], [5, 5, 2, 2]], np.float32)
    np.testing.assert_array_equal(box_ops.area(boxes), [6, 0, 0, 0])


@pytest.mark.parametrize("seed", range(3))
def test_iou_agrees_with_loops(seed):
    rng = np.random.default_rng(seed)
    a, b = random_boxes(rng, 20), random_boxes(rng, 15)
    expected = [[iou_by_hand(p, q) for q in b.astype(np.float64)] for p in a.astype(np.float64)]
    np.testing.assert_allclose(box_ops.pairwise_iou(a, b), expected, atol=1e-6)
    np.testing.assert_allclose(box_ops.pairwise_iou(jnp.array(a), b), expected, atol=1e-6)


def test_iou_of_degenerate_boxes_is_zero_even_with_themselves():
    proper = [0, 0, 10, 10]
    degenerate = [
        [5, 5, 5, 8],
        [5, 5, 8, 5],
        [5, 5, 5, 5],
        [8, 2, 3, 6],
        [8, 8, 3, 3],
        [0, 0, 0, 0],
    ]
    boxes = np.array([proper, *degenerate], np.float32)
    iou = box_ops.pairwise_iou(boxes, boxes)
    assert iou[0, 0] == 1
    assert np.count_nonzero(iou) == 1


@settings(max_examples=50, deadline=None)
@given(box_arrays(), box_arrays())
def test_iou_is_symmetric_and_between_zero_and_one(a, b):
    iou = box_ops.pairwise_iou(a, b)
    assert iou.dtype == np.float32
    assert (iou >= 0).all()
    assert (iou <= 1).all()
    np.testing.assert_array_equal(iou, box_ops.pairwise_iou(b, a).T)
    sizeable = box_ops.area(a) > 1e-6
    np.testing.assert_array_equal(np.diag(box_ops.pairwise_iou(a, a))[sizeable], 1)


def test_iou_does_not_depend_on_compilation():
    # A box inside several anchors of one size has equal IoU with them up to rounding, so that only
    # bit-equal arithmetic decides every time for the same anchor.
    rng = np.random.default_rng(0)
    anchors = anchor_grid((128, 192))
    centre, side = rng.uniform(0, 128, (64, 2)), np.exp(rng.uniform(np.log(2), np.log(64), (64, 2)))
    boxes = np.concatenate([centre - side / 2, centre + side / 2], 1).astype(np.float32)
    boxes = box_ops.clip(boxes, (128, 192))
    expected = box_ops.pairwise_iou(boxes, anchors)
    constant_anchors = jax.jit(lambda b: box_ops.pairwise_iou(b, anchors))
    np.testing.assert_array_equal(constant_anchors(boxes), expected)
    np.testing.assert_array_equal(jax.jit(box_ops.pairwise_iou)(anchors, boxes), expected.T)
    best = jax.jit(lambda b: jnp.argmax(box_ops.pairwise_iou(b, anchors), axis=1))
    np.testing.assert_array_equal(best(boxes), expected.argmax(axis=1))


def test_clip_one_image_and_a_batch():
    boxes = np.array([[-5, -5, 20, 30], [2, 3, 4, 5], [50, 60, 70, 80]], np.float32)
    expected = np.array([[0, 0, 10, 15], [2, 3, 4, 5], [10, 15, 10, 15]], np.float32)
    np.testing.assert_array_equal(box_ops.clip(boxes, (10, 15)), expected)
    batch = box_ops.clip(jnp.stack([boxes, boxes]), jnp.array([[10, 15], [100, 100]]))
    np.testing.assert_array_equal(batch[0], expected)
    np.testing.assert_array_equal(batch[1], np.maximum(boxes, 0))


def test_clip_cuts_infinite_boxes():
    boxes = box_ops.decode(jnp.float32([[0, 0, 200, 200]]), np.float32([[5, 5, 15, 15]]))
    assert jnp.isinf(boxes).all()
    np.testing.assert_array_equal(box_ops.clip(boxes, (64, 48)), [[0, 0, 64, 48]])


def test_published_box_code():
    code = box_ops.encode(np.float32([0, 0, 16, 32]), np.float32([-12, -12, 20, 20]))
    np.testing.assert_allclose(code, [0.125, 0.375, -0.693147, 0], atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_decode_inverts_encode(data):
    boxes = data.draw(box_arrays(min_side=1.0))
    anchors = data.draw(box_arrays(min_side=8.0))[:1]
    decoded = box_ops.decode(box_ops.encode(boxes, anchors), anchors)
    np.testing.assert_allclose(decoded, boxes, atol=5e-3)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_encode_inverts_decode(data):
    anchors = data.draw(box_arrays(min_side=8.0))
    elements = st.floats(-3, 3, width=32)
    codes = data.draw(hnp.arrays(np.float32, anchors.shape, elements=elements))
    np.testing.assert_allclose(
        box_ops.encode(box_ops.decode(codes, anchors), anchors), codes, atol=5e-3
    )


def test_empty_boxes_and_anchors_have_finite_codes():
    boxes = np.array([[5, 5, 5, 5], [0, 0, 0, 0], [9, 9, 3, 3]], np.float32)
    anchors = np.array([[0, 0, 10, 10], [4, 4, 4, 4]], np.float32)
    for anchor in anchors:
        assert np.isfinite(box_ops.encode(boxes, anchor[None])).all()
        assert jnp.isfinite(box_ops.encode(jnp.array(boxes), anchor[None])).all()


def test_coco_boxes_at_the_file_boundary():
    coco = np.array([[10.0, 20.0, 5.0, 7.0]])
    np.testing.assert_array_equal(box_ops.from_xywh(coco), [[20, 10, 27, 15]])
    np.testing.assert_array_equal(box_ops.to_xywh(box_ops.from_xywh(coco)), coco)


def test_numpy_in_numpy_out_and_jax_in_jax_out():
    boxes = np.float32([[1, 2, 3, 5]])
    calls = {
        "area": (box_ops.area, ()),
        "iou": (box_ops.pairwise_iou, (boxes,)),
        "clip": (box_ops.clip, ((2, 4),)),
        "encode": (box_ops.encode, (boxes,)),
        "decode": (box_ops.decode, (boxes,)),
        "from_xywh": (box_ops.from_xywh, ()),
        "to_xywh": (box_ops.to_xywh, ()),
    }
    for name, (function, rest) in calls.items():
        on_host, on_device = function(boxes, *rest), function(jnp.array(boxes), *rest)
        assert isinstance(on_host, np.ndarray), name
        assert isinstance(on_device, jax.Array), name
        assert on_host.dtype == on_device.dtype == np.float32, name
        np.testing.assert_allclose(on_host, on_device, rtol=1e-6, err_msg=name)
