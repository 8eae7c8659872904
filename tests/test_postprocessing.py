import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bifpn_jax import boxes as box_ops
from bifpn_jax.anchors import anchor_grid
from bifpn_jax.nms import Kept, nms
from bifpn_jax.postprocessing import _is_final, postprocess, top_pairs

ANCHORS = anchor_grid((64, 64), max_level=5)
NUM_CLASSES = 4


@functools.cache
def compiled(**options):
    return jax.jit(functools.partial(postprocess, **options))


def random_outputs(rng, batch=2):
    logits = rng.normal(-3, 2, (batch, len(ANCHORS), NUM_CLASSES)).astype(np.float32)
    codes = rng.normal(0, 0.3, (batch, len(ANCHORS), 4)).astype(np.float32)
    original_hw = np.array([[48, 96], [70, 50]], np.int32)[:batch]
    scale = np.array([1.5, 1.09375], np.float32)[:batch]
    return logits, codes, original_hw, scale


@pytest.mark.parametrize("k", [1, 7, 100, 5000])
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_top_pairs_equal_a_full_sort_ties_included(k, dtype):
    rng = np.random.default_rng(k)
    logits = np.round(rng.normal(0, 2, (150, 8)) * 4) / 4 + 0.0  # few distinct values: many ties
    flat = np.argsort(-logits.reshape(-1), kind="stable")[:k]
    found, anchors, labels = jax.jit(functools.partial(top_pairs, k=k))(logits.astype(dtype))
    np.testing.assert_array_equal(found, logits.reshape(-1)[flat])
    np.testing.assert_array_equal(anchors, flat // 8)
    np.testing.assert_array_equal(labels, flat % 8)
    assert found.dtype == jnp.float32


@pytest.mark.parametrize("method", ["hard", "gaussian"])
def test_agrees_with_numpy_step_by_step(method):
    logits, codes, original_hw, scale = random_outputs(np.random.default_rng(0))
    run = compiled(pre_nms_top_k=200, max_detections=30, nms_method=method)
    detections = run(logits, codes, ANCHORS, original_hw, scale)
    run_nms = jax.jit(functools.partial(nms, max_detections=30, method=method))
    for i in range(2):
        flat = np.argsort(-logits[i].reshape(-1), kind="stable")[:200]
        anchors, labels = flat // NUM_CLASSES, flat % NUM_CLASSES
        boxes = box_ops.decode(codes[i][anchors], ANCHORS[anchors])
        boxes = box_ops.clip(boxes, original_hw[i] / scale[i]) * scale[i]
        scores = 1 / (1 + np.exp(-logits[i].reshape(-1)[flat]))
        kept = run_nms(boxes, scores, labels).indices
        assert (kept >= 0).all()
        np.testing.assert_array_equal(detections.labels[i], labels[kept])
        np.testing.assert_allclose(detections.boxes[i], boxes[kept], atol=1e-4)
        if method == "hard":
            np.testing.assert_allclose(detections.scores[i], scores[kept], rtol=1e-6)


def crowded(rng, cells):
    """The best pairs are those of one class in a few cells side by side, so their boxes overlap."""
    logits, codes, original_hw, scale = random_outputs(rng)
    logits[:, : 9 * cells, 0] += 10
    return logits, codes * np.float32(0.2), original_hw, scale


@pytest.mark.parametrize("method", ["hard", "gaussian"])
@pytest.mark.parametrize("threshold", [None, 0.05])
def test_pairs_that_are_tried_first_change_nothing(method, threshold):
    options = {"max_detections": 10, "nms_method": method, "score_threshold": threshold}
    at_once = compiled(pre_nms_top_k=400, first_pairs=400, **options)
    few_first = compiled(pre_nms_top_k=400, first_pairs=40, **options)
    only_few = compiled(pre_nms_top_k=40, **options)
    enough = []
    for seed in range(12):
        logits, codes, original_hw, scale = crowded(np.random.default_rng(seed), seed % 5)
        arrays = (logits, codes, ANCHORS, original_hw, scale)
        expected, found, few = at_once(*arrays), few_first(*arrays), only_few(*arrays)
        for name, array in expected._asdict().items():
            np.testing.assert_array_equal(getattr(found, name), array, err_msg=f"{name} {seed}")
        enough.append(all(np.array_equal(a, b) for a, b in zip(few, expected, strict=True)))
    assert 0 < sum(enough) < 12  # both ways were gone


@pytest.mark.parametrize(
    ("indices", "scores", "last", "threshold", "final"),
    [
        ([3, 1], [0.9, 0.5], 0.4, 0.0, True),
        ([3, 1], [0.9, 0.4], 0.4, 0.0, False),  # one that is left out may score 0.4 as well
        ([3, -1], [0.9, 0.0], 0.4, 0.0, False),
        ([3, -1], [0.9, 0.0], 0.04, 0.05, True),
        ([3, -1], [0.9, 0.0], 0.0, 0.0, True),
        ([3, 1], [0.9, 0.5], np.nan, 0.0, False),
    ],
)
def test_when_more_pairs_could_change_the_result(indices, scores, last, threshold, final):
    kept = Kept(jnp.array(indices), jnp.array(scores, jnp.float32))
    assert bool(_is_final(kept, jnp.float32(last), threshold)) is final


def test_boxes_stay_inside_the_original_image():
    logits, codes, original_hw, scale = random_outputs(np.random.default_rng(1))
    boxes = compiled()(logits, codes * 20, ANCHORS, original_hw, scale).boxes
    assert (boxes >= 0).all()
    assert (boxes <= np.tile(original_hw, 2)[:, None, :]).all()


def test_empty_slots():
    logits, codes, original_hw, scale = random_outputs(np.random.default_rng(2))
    logits[0] = -200.0  # the sigmoid of these is exactly zero
    logits[1] = -9.0
    logits[1, 17, 3] = 2.0
    run = compiled(max_detections=6, score_threshold=0.5)
    detections = run(logits, codes, ANCHORS, original_hw, scale)
    np.testing.assert_array_equal(detections.labels, [[-1] * 6, [3] + [-1] * 5])
    empty = detections.labels < 0
    assert (detections.scores[empty] == 0).all()
    assert (detections.boxes[empty] == 0).all()
    np.testing.assert_allclose(detections.scores[1, 0], 1 / (1 + np.exp(-2.0)), rtol=1e-6)


def test_fewer_pairs_than_slots():
    logits, codes, original_hw, scale = random_outputs(np.random.default_rng(3))
    detections = compiled()(logits[:, :2], codes[:, :2], ANCHORS[:2], original_hw, scale)
    assert detections.boxes.shape == (2, 100, 4)
    assert detections.scores.shape == detections.labels.shape == (2, 100)
    assert (detections.labels[:, 8:] == -1).all()


def test_class_agnostic_keeps_one_box_per_place():
    logits = jnp.full((1, len(ANCHORS), NUM_CLASSES), -9.0).at[0, 5, :].set(jnp.arange(4.0))
    codes, hw, scale = jnp.zeros((1, len(ANCHORS), 4)), jnp.array([[64, 64]]), jnp.ones(1)
    for class_agnostic, labels in ((False, [3, 2, 1, 0, -1]), (True, [3, -1, -1, -1, -1])):
        run = compiled(score_threshold=0.2, class_agnostic=class_agnostic)
        found = run(logits, codes, ANCHORS, hw, scale).labels
        np.testing.assert_array_equal(found[0, :5], labels)


def test_low_precision_outputs_give_float32_detections():
    logits, codes, original_hw, scale = random_outputs(np.random.default_rng(4))
    half = jnp.array(logits, jnp.bfloat16), jnp.array(codes, jnp.bfloat16)
    detections = compiled()(*half, ANCHORS, original_hw, scale)
    exact = compiled()(*(x.astype(jnp.float32) for x in half), ANCHORS, original_hw, scale)
    assert detections.boxes.dtype == detections.scores.dtype == jnp.float32
    assert detections.labels.dtype == jnp.int32
    jax.tree.map(np.testing.assert_array_equal, detections, exact)
