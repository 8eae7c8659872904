"""The assignment of boxes to anchors against loops over exact overlaps, ties included."""

from typing import NamedTuple

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bifpn_jax import boxes as box_ops
from bifpn_jax.matching import match
from properties.overlap import iou_by_hand
from properties.strategies import arrays, float_boxes, floats, grid_boxes

A, M = 24, 6  # anchors and rows of boxes: the shapes that are compiled
HALF_ULP = 2.0**-24

jitted_match = jax.jit(match)
jitted_batch = jax.jit(jax.vmap(match, in_axes=(None, 0, 0)))

LABELS = st.sampled_from([-1, 0, 1, 89, 2**31 - 1])
# Quotients of small whole numbers, as the overlaps are, so that some lie exactly on the threshold.
THRESHOLDS = st.sampled_from([0.2, 0.25, 0.4, 0.5, 0.6, 0.75, 1.0])


class Scene(NamedTuple):
    anchors: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


@st.composite
def scenes(draw, anchors=None):
    """Overlapping boxes among overlapping anchors, any rows only pads, some boxes without area."""
    if anchors is None:
        anchors = draw(grid_boxes(A))
    boxes = draw(grid_boxes(M, min_side=draw(st.integers(0, 1))))
    return Scene(anchors, boxes, draw(arrays(M, LABELS, np.int32)))


def matched_by_loops(iou, labels, threshold):
    """Index of the matched box of every anchor, -1 for none, from overlaps [M, A]."""
    objects = [m for m in range(len(labels)) if labels[m] >= 0]
    matched = np.full(iou.shape[1], -1)
    for a in range(iou.shape[1]):
        best = max(objects, key=lambda m: (iou[m, a], -m), default=None)
        if best is not None and np.float32(iou[best, a]) >= np.float32(threshold):
            matched[a] = best
    claimed = set()
    for m in objects:
        anchor = max(range(iou.shape[1]), key=lambda a: (iou[m, a], -a))
        if anchor not in claimed:
            matched[anchor] = m
            claimed.add(anchor)
    return matched


@given(scenes(), THRESHOLDS)
def test_every_anchor_gets_the_box_of_the_loops(scene, threshold):
    anchors, boxes, labels = scene
    iou = iou_by_hand(boxes, anchors)
    expected = matched_by_loops(iou, labels, threshold)
    targets = jitted_match(*scene, threshold)
    np.testing.assert_array_equal(targets.matched_box, expected)
    positive = expected >= 0
    assert targets.num_positives == positive.sum()
    np.testing.assert_array_equal(targets.class_targets, np.where(positive, labels[expected], -1))


@given(scenes())
def test_box_targets_are_the_codes_of_the_matched_boxes(scene):
    anchors, boxes, _ = (part.astype(np.float64) for part in scene)
    targets = jitted_match(*scene)
    matched = np.asarray(targets.matched_box)
    own = boxes[matched]
    sides, anchor_sides = own[:, 2:] - own[:, :2], anchors[:, 2:] - anchors[:, :2]
    offsets = (own[:, :2] + own[:, 2:] - anchors[:, :2] - anchors[:, 2:]) / 2 / anchor_sides
    ratios = np.log(np.maximum(sides, np.float32(1e-8)) / anchor_sides)
    expected = np.where((matched >= 0)[:, None], np.concatenate([offsets, ratios], axis=1), 0)
    # Whole numbers leave one rounding to the offsets; a quotient and a logarithm, two units in the
    # last place, are the ratios'.
    np.testing.assert_allclose(targets.box_targets, expected, rtol=4 * HALF_ULP, atol=2 * HALF_ULP)


@given(float_boxes(A), float_boxes(M), arrays(M, LABELS, np.int32), floats(0.0625, 1))
def test_compiled_decisions_are_those_of_the_overlaps_in_numpy(anchors, boxes, labels, threshold):
    anchors[:M] += (boxes - anchors[:M]) * np.float32(0.9)  # so that some overlap
    iou = box_ops.pairwise_iou(boxes, anchors)
    targets = jitted_match(anchors, boxes, labels, threshold)
    np.testing.assert_array_equal(targets.matched_box, matched_by_loops(iou, labels, threshold))


@given(scenes())
def test_every_object_has_an_anchor_unless_an_earlier_one_claims_it(scene):
    anchors, boxes, labels = scene
    matched = np.asarray(jitted_match(*scene).matched_box)
    best = iou_by_hand(boxes, anchors).argmax(axis=1)
    for m in np.flatnonzero(labels >= 0):
        owner = matched[best[m]]
        assert owner == m or (owner < m and best[owner] == best[m])


@given(scenes())
def test_an_image_of_pads_has_no_positives(scene):
    targets = jitted_match(scene.anchors, scene.boxes, np.full(M, -1, np.int32))
    assert targets.num_positives == 0
    assert (targets.matched_box == -1).all()
    assert (targets.class_targets == -1).all()
    assert (targets.box_targets == 0).all()


@given(scenes(), st.sampled_from([0.0, 1e9, -5.0, np.nan, np.inf]))
def test_what_pads_hold_does_not_matter(scene, junk):
    boxes = scene.boxes.copy()
    boxes[scene.labels < 0] = junk
    expected = jitted_match(*scene)
    targets = jitted_match(scene.anchors, boxes, scene.labels)
    for actual, wanted in zip(targets, expected, strict=True):
        np.testing.assert_array_equal(actual, wanted)


@given(scenes(), st.permutations(range(A)))
def test_the_order_of_the_anchors_decides_ties_only(scene, order):
    anchors, boxes, labels = scene
    iou = iou_by_hand(boxes, anchors)
    # Where each box has one best anchor only, an anchor's place in the list is nothing to it.
    tied = (iou == iou.max(axis=1, keepdims=True)).sum(axis=1) > 1
    labels = np.where(tied, -1, labels).astype(np.int32)
    expected = jitted_match(anchors, boxes, labels)
    targets = jitted_match(anchors[list(order)], boxes, labels)
    np.testing.assert_array_equal(targets.matched_box, expected.matched_box[np.array(order)])
    assert targets.num_positives == expected.num_positives


@given(st.data())
def test_every_image_of_a_batch_is_matched_by_itself(data):
    first = data.draw(scenes())
    batch = [first, data.draw(scenes(anchors=first.anchors))]
    boxes, labels = np.stack([s.boxes for s in batch]), np.stack([s.labels for s in batch])
    targets = jitted_batch(first.anchors, boxes, labels)
    for i, scene in enumerate(batch):
        alone = jitted_match(*scene)
        np.testing.assert_array_equal(targets.matched_box[i], alone.matched_box)
        np.testing.assert_array_equal(targets.class_targets[i], alone.class_targets)
        assert targets.num_positives[i] == alone.num_positives
        np.testing.assert_allclose(
            targets.box_targets[i], alone.box_targets, rtol=8 * HALF_ULP, atol=4 * HALF_ULP
        )
