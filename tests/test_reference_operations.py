"""Anchors, assignment, losses and detections against effdet's (see the reference data's README)."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest

from bifpn_jax.anchors import anchor_grid, level_shapes
from bifpn_jax.losses import detection_loss
from bifpn_jax.matching import match
from bifpn_jax.postprocessing import postprocess


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    seed: int
    image_hw: tuple[int, int]
    num_boxes: int
    num_classes: int


CASES = [Case("ops_d0_256", 3, (256, 256), 12, 90), Case("ops_d1_256x384", 4, (256, 384), 30, 20)]


def head_outputs(case):
    """The class logits [2, A, K] and box codes [2, A, 4] that the reference drew from the seed."""
    rng, (h, w) = np.random.RandomState(case.seed), case.image_hw
    for k in (case.num_boxes, max(1, case.num_boxes // 3)):  # the boxes come first in the stream
        rng.uniform(0, h, k), rng.uniform(0, w, k)
        rng.uniform(np.log(4), np.log(min(h, w)), k), rng.uniform(-1, 1, k)
        rng.randint(1, case.num_classes + 1, k)
    classes, boxes = [], []
    for hl, wl in level_shapes(case.image_hw, 3, 7):
        drawn = rng.standard_normal((2, 9 * case.num_classes, hl, wl)) * 2 - 4
        classes.append(drawn.transpose(0, 2, 3, 1).reshape(2, -1, case.num_classes))
        drawn = rng.standard_normal((2, 36, hl, wl)) * 0.3
        boxes.append(drawn.transpose(0, 2, 3, 1).reshape(2, -1, 4))
    return (np.concatenate(part, axis=1).astype(np.float32) for part in (classes, boxes))


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def reference(case, shared):
    with np.load(shared / "goldens" / f"{case.name}.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def targets(case, reference):
    labels = np.maximum(reference["labels_1based"] - 1, -1).astype(np.int32)
    labels = np.where(reference["labels_1based"] < 1, -1, labels)
    match_batch = jax.jit(jax.vmap(match, in_axes=(None, 0, 0)))
    return match_batch(anchor_grid(case.image_hw), reference["boxes_yxyx"], labels)


def test_anchors(case, reference):
    np.testing.assert_array_equal(anchor_grid(case.image_hw), reference["anchors_yxyx"])


def test_targets(reference, targets):
    np.testing.assert_array_equal(targets.class_targets, reference["class_targets"])
    np.testing.assert_array_equal(targets.num_positives, reference["num_positives"])
    image, anchor = reference["positive_index"].T
    expected = np.zeros(targets.box_targets.shape, np.float32)
    expected[image, anchor] = reference["positive_box_targets"]
    np.testing.assert_allclose(targets.box_targets, expected, atol=1e-6)


def test_losses(case, reference, targets):
    normalizer = targets.num_positives.sum() + 1
    total, parts = jax.jit(detection_loss)(
        *head_outputs(case), targets, normalizer, anchor_grid(case.image_hw)
    )
    losses = [total, parts["class_loss"], parts["box_loss"]]
    np.testing.assert_allclose(losses, reference["losses_total_class_box"], rtol=1e-6)


def test_detections(case, reference):
    logits, codes = head_outputs(case)
    original_hw, scale = reference["image_size_wh"][:, ::-1], reference["image_scale"]
    detect = jax.jit(partial(postprocess, nms_method="hard"))
    ours = detect(logits, codes, anchor_grid(case.image_hw), original_hw, scale)
    expected = reference["detections_xyxy_score_class"]
    for i in range(2):
        rows = np.concatenate(
            [ours.boxes[i][:, [1, 0, 3, 2]], ours.scores[i][:, None], ours.labels[i][:, None] + 1],
            1,
        )
        # Rows of equal score may come in another order: sort by score, class, box on both sides.
        rows, wanted = (r[np.lexsort((*r.T[:4], r[:, 5], -r[:, 4]))] for r in (rows, expected[i]))
        np.testing.assert_array_equal(rows[:, 5], wanted[:, 5])
        np.testing.assert_allclose(rows[:, 4], wanted[:, 4], rtol=1e-6)
        np.testing.assert_allclose(rows[:, :4], wanted[:, :4], atol=1e-3)
