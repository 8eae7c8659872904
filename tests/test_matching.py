import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bifpn_jax import boxes as box_ops
from bifpn_jax import matching
from bifpn_jax.anchors import anchor_grid
from bifpn_jax.matching import match

ANCHORS = anchor_grid((96, 64))
jitted_match = jax.jit(match)


def match_by_loops(anchors, boxes, labels, iou_threshold=0.5):
    """Index of the matched box of every anchor, straight from the definition."""
    iou = box_ops.pairwise_iou(anchors, boxes)
    matched = np.full(len(anchors), -1)
    objects = [m for m in range(len(boxes)) if labels[m] >= 0]
    for a in range(len(anchors)):
        for m in objects:
            best_so_far = max((iou[a, n] for n in objects if n < m), default=-1.0)
            if iou[a, m] > best_so_far and iou[a, m] >= iou_threshold:
                matched[a] = m
    for m in reversed(objects):
        matched[int(np.argmax(iou[:, m]))] = m
    return matched


def random_scene(rng, n, padded_to=12, hw=(96, 64)):
    boxes, labels = np.zeros((padded_to, 4), np.float32), np.full(padded_to, -1, np.int32)
    side = np.exp(rng.uniform(np.log(4), np.log(80), (n, 2)))
    centre = rng.uniform(0, 1, (n, 2)) * np.array([hw])
    boxes[:n] = box_ops.clip(np.concatenate([centre - side / 2, centre + side / 2], 1), hw)
    labels[:n] = rng.integers(0, 5, n)
    return boxes, labels


def check_consistent(targets, anchors, boxes, labels):
    matched = np.asarray(targets.matched_box)
    positive = matched >= 0
    assert targets.num_positives == positive.sum()
    np.testing.assert_array_equal(targets.class_targets, np.where(positive, labels[matched], -1))
    codes = np.where(positive[:, None], box_ops.encode(boxes[matched], anchors), 0)
    np.testing.assert_allclose(targets.box_targets, codes, atol=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_loops(seed):
    rng = np.random.default_rng(seed)
    boxes, labels = random_scene(rng, n=1 + seed)
    targets = jitted_match(ANCHORS, boxes, labels)
    np.testing.assert_array_equal(targets.matched_box, match_by_loops(ANCHORS, boxes, labels))
    check_consistent(targets, ANCHORS, boxes, labels)


def test_ties_go_to_the_first_box_and_the_first_anchor():
    anchors = np.float32([[0, 0, 8, 8], [0, 0, 8, 8], [20, 20, 28, 28]])
    boxes = np.float32([[0, 0, 8, 8], [0, 0, 8, 8], [0, 0, 0, 0]])
    targets = jitted_match(anchors, boxes, np.int32([3, 4, -1]))
    # Both boxes claim anchor 0 and box 0 wins; anchor 1 overlaps both alike and takes box 0 too.
    np.testing.assert_array_equal(targets.matched_box, [0, 0, -1])
    np.testing.assert_array_equal(targets.class_targets, [3, 3, -1])
    assert targets.num_positives == 2


@pytest.mark.parametrize(("box_width", "matched"), [(8, 0), (9, -1)])
def test_threshold_is_inclusive(box_width, matched):
    # The second box claims anchor 1, so that anchor 0 matches it by its IoU of 4/8 or 4/9 alone.
    anchors = np.float32([[0, 0, 1, 4], [0, 0, 1, box_width]])
    targets = jitted_match(anchors, np.float32([[0, 0, 1, box_width]]), np.int32([0]))
    np.testing.assert_array_equal(targets.matched_box, [matched, 0])


def test_a_claim_overrides_a_better_overlap():
    anchors = np.float32([[0, 0, 10, 10], [50, 50, 60, 60]])
    boxes = np.float32([[0, 0, 10, 4], [0, 0, 10, 10]])
    targets = jitted_match(anchors, boxes, np.int32([0, 1]))
    np.testing.assert_array_equal(targets.matched_box, [0, -1])


def test_every_box_is_claimed_even_without_overlap():
    boxes, labels = np.float32([[500, 500, 510, 510]]), np.int32([2])
    targets = jitted_match(ANCHORS, boxes, labels)
    assert targets.num_positives == 1
    assert targets.class_targets[0] == 2


def test_image_without_boxes_has_no_positives():
    boxes, labels = np.zeros((7, 4), np.float32), np.full(7, -1, np.int32)
    targets = jitted_match(ANCHORS, boxes, labels)
    assert targets.num_positives == 0
    assert (targets.class_targets == -1).all()
    assert (targets.matched_box == -1).all()
    assert (targets.box_targets == 0).all()


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(0, 6))
def test_padding_never_changes_targets(seed, n):
    rng = np.random.default_rng(seed)
    boxes, labels = random_scene(rng, n)
    expected = jitted_match(ANCHORS, boxes, labels)
    # The same objects in the same order, scattered among pads that would match if they were read.
    rows = np.sort(rng.choice(len(boxes), n, replace=False))
    scattered = ANCHORS[rng.integers(0, len(ANCHORS), len(boxes))]
    scattered_labels = np.full_like(labels, -1)
    scattered[rows], scattered_labels[rows] = boxes[:n], labels[:n]
    targets = jitted_match(ANCHORS, scattered, scattered_labels)
    np.testing.assert_array_equal(targets.class_targets, expected.class_targets)
    np.testing.assert_array_equal(targets.box_targets, expected.box_targets)
    assert targets.num_positives == expected.num_positives


def test_vmap_equals_one_by_one():
    scenes = [random_scene(np.random.default_rng(seed), n=seed) for seed in range(4)]
    boxes, labels = (np.stack(part) for part in zip(*scenes, strict=True))
    batch = jax.jit(jax.vmap(match, in_axes=(None, 0, 0)))(ANCHORS, boxes, labels)
    singles = [jitted_match(ANCHORS, *scene) for scene in scenes]
    for i, single in enumerate(singles):
        np.testing.assert_array_equal(batch.matched_box[i], single.matched_box)
        np.testing.assert_array_equal(batch.class_targets[i], single.class_targets)
        np.testing.assert_array_equal(batch.num_positives[i], single.num_positives)
        np.testing.assert_allclose(batch.box_targets[i], single.box_targets, atol=1e-5)
    assert batch.class_targets.dtype == batch.num_positives.dtype == jnp.int32
    assert batch.box_targets.dtype == jnp.float32


@pytest.mark.parametrize("seed", range(4))
def test_the_loop_of_the_cpu_finds_what_the_comparison_at_once_finds(seed):
    """Pads among the objects, boxes that occur twice, and no object at all."""
    rng = np.random.default_rng(seed)
    boxes, labels = random_scene(rng, 5 * (seed > 0))
    boxes[3] = boxes[1]
    order = rng.permutation(len(boxes))
    boxes, is_object = boxes[order], labels[order] >= 0
    loop, at_once = (
        jax.jit(form)(ANCHORS, boxes, is_object)
        for form in (matching._best_one_by_one, matching._best_at_once)
    )
    np.testing.assert_array_equal(loop.iou, at_once.iou)
    np.testing.assert_array_equal(loop.box, at_once.box)
    np.testing.assert_array_equal(loop.anchor[is_object], at_once.anchor[is_object])
    assert loop.iou.max() == (-1 if seed == 0 else pytest.approx(0.6, abs=0.4))
