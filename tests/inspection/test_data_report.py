import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bifpn_jax.anchors import anchor_grid
from bifpn_jax.boxes import pairwise_iou
from bifpn_jax.inspection.data_report import best_anchor_iou, data_report

ANCHORS = anchor_grid((128, 128))


def random_boxes(rng, number, hw):
    centre = rng.uniform(-0.1, 1.1, (number, 2)) * hw
    half = np.exp(rng.uniform(np.log(0.5), np.log(max(hw)), (number, 2))) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    hw=st.sampled_from([(64, 64), (100, 61), (128, 192), (33, 250)]),
    anchor_scale=st.sampled_from([1.5, 3.0, 4.0, (4.0, 2.0, 4.0, 2.0, 4.0)]),
    num_scales=st.integers(1, 3),
)
def test_best_anchor_equals_brute_force(seed, hw, anchor_scale, num_scales):
    # The scales that alternate give anchors of one shape on two levels, which are no single grid.
    anchors = anchor_grid(hw, anchor_scale=anchor_scale, num_scales=num_scales)
    boxes = random_boxes(np.random.default_rng(seed), 20, hw)
    expected = pairwise_iou(boxes, anchors.astype(np.float64)).max(axis=1)
    np.testing.assert_allclose(best_anchor_iou(boxes, anchors), expected, atol=1e-5)


def test_best_anchor_without_boxes_and_with_empty_ones():
    assert best_anchor_iou(np.zeros((0, 4)), ANCHORS).shape == (0,)
    np.testing.assert_array_equal(best_anchor_iou(np.array([[5, 5, 5, 9]]), ANCHORS), [0])


def dataset(*boxes_of_image, hw=(64, 128), category=3):
    """A COCO dict; each argument lists the xywh boxes of one image."""
    return {
        "images": [
            {"id": 50 + i, "height": hw[0], "width": hw[1]} for i in range(len(boxes_of_image))
        ],
        "annotations": [
            {"image_id": 50 + i, "category_id": category, "bbox": list(box), "iscrowd": 0}
            for i, boxes in enumerate(boxes_of_image)
            for box in boxes
        ],
        "categories": [{"id": 8, "name": "dog"}, {"id": 3, "name": "cat"}],
    }


def test_counts():
    big, tiny, thin = (10, 10, 40, 40), (3, 3, 2, 2), (0, 30, 120, 12)
    truth = dataset([big, big, tiny], [], [thin])
    truth["annotations"][1]["iscrowd"] = 1
    truth["annotations"][2]["category_id"] = 8
    report = data_report(truth, ANCHORS, (128, 128), max_boxes=1)
    assert report.boxes_per_image.tolist() == [2, 0, 1]
    assert report.num_crowds == 1
    assert report.boxes_over_limit == 1
    assert report.boxes_per_class == {"cat": 2, "dog": 1}
    np.testing.assert_allclose(report.sizes, [40, 2, (120 * 12) ** 0.5])
    assert (report.best_iou >= 0.5).tolist() == [True, False, False]
    assert report.coverage == pytest.approx(1 / 3)
    text = str(report)
    for line in (
        "images          3, 1 of them without boxes",
        "boxes           3, and 1 crowds",
        "boxes per image median 1, most 2",
        "1 images with more than 1 boxes, 1 boxes dropped",
        "33.3% of the boxes",
        "1 are smaller than every anchor",
        "1 are long and thin",
        "    0 - 8             1   33.3%     0.0%",
        "   32 - 64            2   66.7%    50.0%",
        "cat           2    50.0%",
    ):
        assert line in text


def test_sizes_are_those_of_the_letterboxed_image():
    truth = dataset([(0, 0, 100, 100)], hw=(640, 1280))
    report = data_report(truth, ANCHORS, (128, 128), max_boxes=10)
    np.testing.assert_allclose(report.sizes, [10])


def test_dataset_without_boxes():
    report = data_report(dataset([], []), ANCHORS, (128, 128), max_boxes=10)
    assert report.coverage == 1.0
    assert report.boxes_per_class == {"cat": 0, "dog": 0}
    assert "images          2, 2 of them without boxes" in str(report)


def test_coverage_of_every_anchor_is_complete():
    rng = np.random.default_rng(0)
    inside = ANCHORS[(ANCHORS[:, :2] >= 0).all(1) & (ANCHORS[:, 2:] <= 128).all(1)]
    y0, x0, y1, x1 = rng.choice(inside, 30).astype(np.float64).T
    truth = dataset(np.stack([x0, y0, x1 - x0, y1 - y0], axis=1).tolist(), hw=(128, 128))
    report = data_report(truth, ANCHORS, (128, 128), max_boxes=100)
    np.testing.assert_allclose(report.best_iou, 1, atol=1e-5)
    assert report.coverage == 1.0


@pytest.mark.parametrize("iou_threshold", [0.3, 0.5, 0.7, 0.9])
def test_the_threshold_is_that_of_the_assignment(iou_threshold):
    rng = np.random.default_rng(1)
    corners, sides = rng.uniform(0, 60, (40, 2)), rng.uniform(5, 60, (40, 2))
    xywh = np.concatenate([corners, sides], axis=1)
    report = data_report(
        dataset(xywh.tolist(), hw=(128, 128)), ANCHORS, (128, 128), 100, iou_threshold
    )
    yxyx = np.concatenate([corners[:, ::-1], (corners + sides)[:, ::-1]], axis=1)
    reached = pairwise_iou(yxyx, ANCHORS.astype(np.float64)).max(axis=1) >= iou_threshold
    assert report.coverage == pytest.approx(reached.mean())
    assert f"have an anchor with IoU >= {iou_threshold}; the others" in str(report)
    assert f"cat          40   {reached.mean():>6.1%}" in str(report)
