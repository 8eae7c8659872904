"""Hard and soft suppression against loops over exact overlaps, and what always holds for them."""

import functools
from typing import NamedTuple

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bifpn_jax import boxes as box_ops
from bifpn_jax.nms import nms
from properties.overlap import iou_by_hand
from properties.strategies import arrays, float_boxes, floats, grid_boxes

N, D = 16, 20  # boxes, and more slots than there are boxes: the shapes that are compiled
FEW = 6  # slots, where there are to be too few
HALF_ULP = 2.0**-24

STATIC = ("max_detections", "method", "class_agnostic")
jitted_nms = jax.jit(nms, static_argnames=STATIC)
run = functools.partial(jitted_nms, max_detections=D)
soft = functools.partial(run, method="gaussian")

SCORES = st.sampled_from([0.25, 0.5, 0.75, 0.0, -1.0, np.nan]) | floats(0, 1)
# Quotients of small whole numbers, as the overlaps are, so that some lie exactly on the threshold.
THRESHOLDS = st.sampled_from([0.2, 0.25, 0.4, 0.5, 0.6, 0.75])
SIGMAS = st.sampled_from([0.125, 0.25, 0.5, 1.0])


class Scene(NamedTuple):
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


@st.composite
def scenes(draw, scores=SCORES, boxes=None):
    """Overlapping and equal boxes of three classes."""
    boxes = draw(grid_boxes(N) if boxes is None else boxes)
    scores = draw(arrays(N, scores, np.float32))
    return Scene(boxes, scores, draw(arrays(N, st.sampled_from([0, 1, 89]), np.int32)))


@st.composite
def different_scores(draw):
    """Scenes in which no two scores are equal."""
    scene = draw(scenes())
    return scene._replace(scores=np.float32(draw(st.permutations(range(1, N + 1)))) / N)


def kept_rows(kept):
    """Indices that are kept, after a check that the empty slots are empty and come last."""
    indices, scores = np.asarray(kept.indices), np.asarray(kept.scores)
    number = int((indices >= 0).sum())
    assert (indices[number:] == -1).all()
    assert (scores[number:] == 0).all()
    return indices[:number]


def hard_by_loops(scene, iou_threshold, score_threshold=0.0):
    """Walk down the scores, the lower index first, and keep what overlaps nothing kept."""
    boxes, scores, labels = scene
    iou, kept = iou_by_hand(boxes, boxes).astype(np.float32), []
    candidates = [i for i in range(N) if scores[i] > score_threshold]  # NaN is above nothing
    for i in sorted(candidates, key=lambda i: (-scores[i], i)):
        rivals = [j for j in kept if labels[j] == labels[i]]
        if all(iou[i, j] <= np.float32(iou_threshold) for j in rivals):
            kept.append(i)
    return kept


@given(scenes(), THRESHOLDS, st.sampled_from([0.0, 0.25, 0.5]))
def test_hard_nms_keeps_what_the_loops_keep(scene, iou_threshold, score_threshold):
    options = {"iou_threshold": iou_threshold, "score_threshold": score_threshold}
    kept = run(*scene, **options)
    expected = hard_by_loops(scene, **options)
    assert kept_rows(kept).tolist() == expected
    np.testing.assert_array_equal(kept.scores[: len(expected)], scene.scores[expected])


@given(scenes(), THRESHOLDS)
def test_without_classes_all_boxes_are_of_one(scene, iou_threshold):
    kept = run(*scene, iou_threshold=iou_threshold, class_agnostic=True)
    one_class = scene._replace(labels=np.zeros(N, np.int32))
    assert kept_rows(kept).tolist() == hard_by_loops(one_class, iou_threshold)


@given(scenes(boxes=float_boxes(N)), floats(0.0625, 1))
def test_what_hard_nms_keeps_and_drops(scene, iou_threshold):
    boxes, scores, labels = scene
    boxes[1:] += (boxes[0] - boxes[1:]) * np.float32(0.8)  # so that some overlap
    rows = kept_rows(run(*scene, iou_threshold=iou_threshold))
    assert len(set(rows.tolist())) == len(rows)
    assert (np.diff(scores[rows]) <= 0).all()
    overlaps = box_ops.pairwise_iou(boxes, boxes) > np.float32(iou_threshold)
    overlaps &= labels[:, None] == labels[None]
    np.fill_diagonal(overlaps, False)
    assert not overlaps[np.ix_(rows, rows)].any()
    for i in set(np.flatnonzero(scores > 0).tolist()) - set(rows.tolist()):
        rivals = rows[overlaps[i, rows]]
        better = (scores[rivals] > scores[i]) | ((scores[rivals] == scores[i]) & (rivals < i))
        assert better.any()


@given(scenes(), SIGMAS, st.sampled_from([0.001, 0.125, 0.5]))
def test_soft_nms_takes_the_best_of_the_decayed_scores_each_time(scene, sigma, score_threshold):
    boxes, scores, labels = scene
    kept = soft(*scene, sigma=sigma, score_threshold=score_threshold)
    iou = np.where(labels[:, None] == labels[None], iou_by_hand(boxes, boxes), 0)
    left = np.where(scores > score_threshold, scores, 0).astype(np.float64)
    # One decay: the exponent is off by 4 half ulps, at most 1 / sigma times, the exponential by
    # two units in the last place, the product by one rounding. At most N decays.
    error = 1.01 * N * (4 / sigma + 4 + 1) * HALF_ULP
    rows = kept_rows(kept)
    assert len(set(rows.tolist())) == len(rows)
    for row, score in zip(rows, kept.scores, strict=False):
        np.testing.assert_allclose(score, left[row], rtol=error)
        assert left[row] >= left.max() * (1 - 2 * error)
        assert score > score_threshold
        left[row] = 0
        left *= np.exp(-(iou[row] ** 2) / sigma)
    assert (left <= score_threshold * (1 + error)).all()


@given(scenes(), SIGMAS)
def test_soft_scores_are_sorted_and_never_above_the_given_ones(scene, sigma):
    kept = soft(*scene, sigma=sigma)
    rows = kept_rows(kept)
    soft_scores = np.asarray(kept.scores)[: len(rows)]
    assert (soft_scores[1:] <= soft_scores[:-1]).all()
    assert (soft_scores <= scene.scores[rows]).all()
    best = np.where(scene.scores > 0.001, scene.scores, -1).argmax()
    assert not len(rows) or rows[0] == best


@given(scenes(), st.sampled_from(["hard", "gaussian"]))
def test_boxes_apart_are_only_sorted_and_ties_go_by_the_lower_index(scene, method):
    corners = np.stack(np.divmod(np.arange(N), 4), axis=1) * 10
    apart = np.concatenate([corners, corners + 10], axis=1).astype(np.float32)
    threshold = {"hard": 0.0, "gaussian": 0.001}[method]
    expected = [i for i in range(N) if scene.scores[i] > threshold]
    expected.sort(key=lambda i: -scene.scores[i])
    kept = run(apart, scene.scores, scene.labels, method=method)
    assert kept_rows(kept).tolist() == expected
    np.testing.assert_array_equal(kept.scores[: len(expected)], scene.scores[expected])


@given(different_scores(), st.permutations(range(N)))
def test_the_order_of_the_boxes_decides_ties_only(scene, order):
    order = np.array(order)
    kept = run(*scene)
    shuffled = run(*(part[order] for part in scene))
    np.testing.assert_array_equal(order[kept_rows(shuffled)], kept_rows(kept))
    np.testing.assert_array_equal(shuffled.scores, kept.scores)


@given(scenes(), st.sampled_from(["hard", "gaussian"]))
def test_a_class_is_suppressed_as_if_it_were_alone(scene, method):
    together = run(*scene, method=method)
    rows = kept_rows(together)
    for label in np.unique(scene.labels):
        only = np.where(scene.labels == label, scene.scores, 0)
        alone = run(scene.boxes, only, scene.labels, method=method)
        own = scene.labels[rows] == label
        np.testing.assert_array_equal(kept_rows(alone), rows[own])
        scores = np.asarray(together.scores)[: len(rows)][own]
        np.testing.assert_array_equal(np.asarray(alone.scores)[: own.sum()], scores)


@given(scenes(), st.sampled_from(["hard", "gaussian"]))
def test_fewer_slots_hold_the_first_of_many(scene, method):
    many = run(*scene, method=method)
    few = jitted_nms(*scene, max_detections=FEW, method=method)
    np.testing.assert_array_equal(few.indices, many.indices[:FEW])
    np.testing.assert_array_equal(few.scores, many.scores[:FEW])


@given(scenes(), THRESHOLDS)
def test_the_survivors_of_hard_nms_survive_it_again(scene, iou_threshold):
    rows = kept_rows(run(*scene, iou_threshold=iou_threshold))
    survived = np.isin(np.arange(N), rows)
    scores = np.where(survived, scene.scores, 0)
    again = run(scene.boxes, scores, scene.labels, iou_threshold=iou_threshold)
    np.testing.assert_array_equal(kept_rows(again), rows)
