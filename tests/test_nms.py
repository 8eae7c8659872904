import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bifpn_jax import boxes as box_ops
from bifpn_jax.errors import UserError
from bifpn_jax.nms import nms

N, D, NUM_CLASSES = 60, 40, 3


def hard_nms_by_loops(boxes, scores, labels, iou_threshold, max_detections, class_agnostic=False):
    """Greedy NMS as everyone writes it: walk down the scores, keep what overlaps nothing kept."""
    kept, iou = [], box_ops.pairwise_iou(boxes, boxes)
    for i in np.argsort(-scores, kind="stable"):
        rivals = [j for j in kept if class_agnostic or labels[j] == labels[i]]
        if scores[i] > 0 and all(iou[i, j] <= iou_threshold for j in rivals):
            kept.append(int(i))
    return kept[:max_detections]


def soft_nms_by_loops(boxes, scores, labels, sigma, score_threshold, max_detections):
    """Gaussian soft-NMS class by class in float64, then the best of all classes together."""
    kept, iou = [], box_ops.pairwise_iou(boxes, boxes).astype(np.float64)
    for label in np.unique(labels):
        left = {int(i): float(scores[i]) for i in np.flatnonzero(labels == label)}
        while left:
            best = max(left, key=lambda i: (left[i], -i))
            score = left.pop(best)
            if score <= score_threshold:
                break
            kept.append((best, score))
            for i in left:
                left[i] *= np.exp(-(iou[best, i] ** 2) / sigma)
    return sorted(kept, key=lambda pair: -pair[1])[:max_detections]


def crowded_scene(seed, n=N):
    rng = np.random.default_rng(seed)
    centre, side = rng.uniform(20, 60, (n, 2)), rng.uniform(5, 40, (n, 2))
    boxes = np.concatenate([centre - side / 2, centre + side / 2], 1).astype(np.float32)
    return boxes, rng.random(n).astype(np.float32), rng.integers(0, NUM_CLASSES, n, dtype=np.int32)


# The thresholds are traced, so that a few compilations serve all tests.
STATIC = ("max_detections", "method", "class_agnostic")
run = functools.partial(jax.jit(nms, static_argnames=STATIC), max_detections=D)


@pytest.mark.parametrize("class_agnostic", [False, True])
@pytest.mark.parametrize("iou_threshold", [0.3, 0.4, 0.5, 0.6, 0.7])
def test_hard_nms_agrees_with_loops(iou_threshold, class_agnostic):
    for seed in range(6):
        boxes, scores, labels = crowded_scene(seed)
        expected = hard_nms_by_loops(boxes, scores, labels, iou_threshold, D, class_agnostic)
        options = {"iou_threshold": iou_threshold, "class_agnostic": class_agnostic}
        indices, kept_scores = run(boxes, scores, labels, **options)
        n = len(expected)
        np.testing.assert_array_equal(indices[:n], expected)
        np.testing.assert_array_equal(kept_scores[:n], scores[expected])
        assert (indices[n:] == -1).all()
        assert (kept_scores[n:] == 0).all()


@pytest.mark.parametrize("sigma", [0.25, 0.5])
def test_soft_nms_agrees_with_loops(sigma):
    for seed in range(6):
        boxes, scores, labels = crowded_scene(seed)
        expected = soft_nms_by_loops(boxes, scores, labels, sigma, 0.001, D)
        indices, kept_scores = run(boxes, scores, labels, method="gaussian", sigma=sigma)
        n = len(expected)
        np.testing.assert_array_equal(indices[:n], [i for i, _ in expected])
        np.testing.assert_allclose(kept_scores[:n], [s for _, s in expected], rtol=2e-5)
        assert (indices[n:] == -1).all()


def test_soft_nms_stops_below_its_score_threshold():
    boxes = np.float32([[0, 0, 10, 10]] * 8)
    scores, labels = np.full(8, 0.9, np.float32), np.zeros(8, np.int32)
    # Each round multiplies by exp(-1 / 0.5) = 0.1353: 0.9, 0.12, 0.016, 0.0022, then 0.0003.
    indices, kept = nms(boxes, scores, labels, max_detections=8, method="gaussian")
    np.testing.assert_array_equal(indices, [0, 1, 2, 3, -1, -1, -1, -1])
    np.testing.assert_allclose(kept[:4], 0.9 * np.exp(-2 * np.arange(4)), rtol=1e-5)
    indices, _ = nms(
        boxes, scores, labels, max_detections=8, method="gaussian", score_threshold=0.01
    )
    assert (indices >= 0).sum() == 3


def test_boxes_at_the_threshold_stay():
    boxes = np.float32([[0, 0, 1, 4], [0, 0, 1, 8], [0, 0, 1, 9]])  # IoU 4/8, 4/9 and 8/9
    kept = nms(boxes, np.float32([3, 2, 1]), np.zeros(3, np.int32), max_detections=3)
    np.testing.assert_array_equal(kept.indices, [0, 1, -1])


def test_equal_scores_go_by_the_lower_index():
    boxes = np.float32([[0, 0, 9, 9], [50, 50, 60, 60], [0, 0, 9, 9], [80, 0, 90, 9]])
    kept = nms(boxes, np.full(4, 0.5), np.zeros(4, np.int32), max_detections=4)
    np.testing.assert_array_equal(kept.indices, [0, 1, 3, -1])


def test_scores_not_above_the_threshold_and_nan_are_no_detections():
    boxes = np.float32([[0, 0, 9, 9], [50, 50, 60, 60], [20, 20, 29, 29], [80, 0, 90, 9]])
    scores = np.float32([0.0, 0.3, np.nan, 0.7])
    kept = nms(boxes, scores, np.zeros(4, np.int32), max_detections=6)
    np.testing.assert_array_equal(kept.indices, [3, 1, -1, -1, -1, -1])
    kept = nms(boxes, scores, np.zeros(4, np.int32), max_detections=6, score_threshold=0.3)
    np.testing.assert_array_equal(kept.indices, [3, -1, -1, -1, -1, -1])


def test_classes_far_apart_in_number_keep_full_precision():
    # Moving the boxes of each class apart would round these, at label 10^6, to the same box.
    boxes = np.float32([[0, 0, 4, 4], [0, 0, 1.9, 4], [0, 0, 2.1, 4]])
    labels = np.full(3, 10**6, np.int32)
    kept = nms(boxes, np.float32([0.9, 0.8, 0.7]), labels, max_detections=3)
    np.testing.assert_array_equal(kept.indices, [0, 1, -1])


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), iou_threshold=st.sampled_from([0.3, 0.5, 0.7]))
def test_kept_boxes_of_a_class_never_overlap_above_the_threshold(seed, iou_threshold):
    boxes, scores, labels = crowded_scene(seed)
    indices, kept_scores = run(boxes, scores, labels, iou_threshold=iou_threshold)
    kept = np.asarray(indices)[np.asarray(indices) >= 0]
    assert len(np.unique(kept)) == len(kept)
    assert (np.diff(kept_scores) <= 0).all()
    iou = box_ops.pairwise_iou(boxes[kept], boxes[kept]) - np.eye(len(kept))
    same_class = labels[kept][:, None] == labels[kept][None, :]
    assert (iou[same_class] <= iou_threshold).all()


@pytest.mark.parametrize("method", ["hard", "gaussian"])
def test_vmap_equals_one_by_one(method):
    scenes = [crowded_scene(seed) for seed in range(3)]
    batch = [jnp.stack(part) for part in zip(*scenes, strict=True)]
    indices, scores = jax.vmap(functools.partial(run, method=method))(*batch)
    for i, scene in enumerate(scenes):
        expected = run(*scene, method=method)
        np.testing.assert_array_equal(indices[i], expected.indices)
        np.testing.assert_allclose(scores[i], expected.scores, rtol=1e-6)


def test_unknown_method_gets_one_line():
    with pytest.raises(UserError, match="unknown NMS method 'soft': choose one of hard, gaussian"):
        nms(*crowded_scene(0), method="soft")
