"""Rotated boxes, as CVAT exports them, become the upright boxes around them."""

import cv2
import numpy as np
import pytest

from bifpn_jax.data.coco.rotated_boxes import enclose_rotated, read_rotation
from bifpn_jax.errors import UserError


def corners_of(box, degrees):
    """The four corners [4, 2] of a box rotated about its centre, by OpenCV."""
    x, y, width, height = box
    return cv2.boxPoints(((x + width / 2, y + height / 2), (width, height), degrees))


@pytest.mark.parametrize("degrees", [1, 30.0, 45, 89.5, 90, 123.4, 210, 270, 359, -30, 400])
def test_the_upright_box_encloses_the_rotated_one(degrees):
    box = [100.0, 80, 60, 20]
    xywh, hw = np.array([box, box]), np.array([[300.0, 300], [300, 300]])
    assert enclose_rotated(xywh, np.array([degrees, 0.0]), hw).tolist() == [True, False]
    points = corners_of(box, degrees)
    expected = [*points.min(axis=0), *np.ptp(points, axis=0)]
    np.testing.assert_allclose(xywh[0], expected, atol=1e-3)
    assert xywh[1].tolist() == box


def with_rotation(folder, index, rotation, **fields):
    annotation = folder.content["annotations"][index]
    annotation["attributes"] = {"occluded": False, "rotation": rotation}
    annotation.update(fields)
    folder.write()


def test_training_and_ground_truth_see_the_same_box(coco_folder):
    with_rotation(coco_folder, 2, 90.0, bbox=[10, 15, 30, 10], area=300.0)
    source = coco_folder.open()
    np.testing.assert_allclose(source[0].boxes[1], [5, 20, 35, 30], atol=1e-5)
    entry = {e["id"]: e for e in source.ground_truth()["annotations"]}[13]
    np.testing.assert_allclose(entry["bbox"], [20, 5, 10, 30], atol=1e-9)
    assert entry["area"] == 300.0
    assert source.summary().endswith("; rotated boxes taken as the upright box around them: 1")


def test_the_area_that_no_file_gives_is_that_of_the_rotated_box(coco_folder):
    with_rotation(coco_folder, 2, 45.0, bbox=[10, 15, 20, 10])
    source = coco_folder.open()
    assert source[0].area[1] == 200
    _, _, width, height = source.ground_truth()["annotations"][1]["bbox"]
    assert width * height > 400


def test_what_reaches_outside_once_rotated_is_cut(coco_folder):
    # 60 pixels wide and 40 high: upright, the box would reach outside by far.
    with_rotation(coco_folder, 2, 90, bbox=[-10, 10, 60, 10], area=600)
    source = coco_folder.open()
    np.testing.assert_allclose(source[0].boxes[1], [0, 15, 40, 25], atol=1e-5)
    np.testing.assert_allclose(source.objects.xywh[1], [15, 0, 10, 40], atol=1e-9)
    assert source.objects.num_cut == 0


@pytest.mark.parametrize("bad_boxes", ["skip", "clip"])
def test_a_rotated_box_outside_of_the_image_is_bad(coco_folder, bad_boxes):
    with_rotation(coco_folder, 2, 30, bbox=[100, 100, 20, 10])
    coco_folder.content["annotations"].append(coco_folder.annotation(14, 7, 2, [1, 1, 5, 5]))
    coco_folder.write()
    with pytest.raises(UserError, match=r"annotation 13 .* outside of the image"):
        coco_folder.open()
    source = coco_folder.open(bad_boxes=bad_boxes)
    assert source.objects.num_skipped == 1
    assert source.objects.remarks == ()


@pytest.mark.parametrize("rotation", [0, 0.0, 180.0, 360, "left", "30", None, True, [1], 1e300])
def test_no_rotation_is_no_change(coco_folder, rotation):
    before = coco_folder.open()
    with_rotation(coco_folder, 2, rotation)
    after = coco_folder.open()
    for name in ("xywh", "yxyx", "area", "ids"):
        np.testing.assert_array_equal(getattr(after.objects, name), getattr(before.objects, name))
    assert after.summary() == before.summary()


@pytest.mark.parametrize("attributes", [None, {}, [], "rotation", {"rotated": 30}])
def test_other_attributes_are_none_of_it(attributes):
    assert read_rotation(attributes) == 0
