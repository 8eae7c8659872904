import cv2
import jax
import numpy as np
import pytest

from bifpn_jax.anchors import anchor_grid
from bifpn_jax.data.records import Record
from bifpn_jax.inspection import data_pictures
from bifpn_jax.inspection.data_pictures import (
    annotated_picture,
    augmented_pictures,
    matched_pictures,
)
from bifpn_jax.inspection.drawing import class_color
from bifpn_jax.train.gradients import assign

NAMES = ("cat", "dog")


def has_color(picture, label):
    return (picture == np.array(class_color(label))[None, None]).all(axis=2).any()


def record(boxes, labels, is_crowd):
    encoded = cv2.imencode(".png", np.full((300, 260, 3), 70, np.uint8))[1].tobytes()
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return Record(
        1, encoded, "a.png", boxes, np.array(labels, np.int32), np.array(is_crowd, bool), area
    )


def test_annotated_picture():
    boxes = [[10, 10, 90, 90], [120, 120, 250, 200]]
    picture = annotated_picture(record(boxes, [1, 0], [False, True]), NAMES)
    assert picture.shape == (600, 520, 3)  # small images are enlarged
    assert has_color(picture, 0)
    assert has_color(picture, 1)
    plain = annotated_picture(record([], [], []), NAMES)
    assert (plain == 70).all()


@pytest.fixture
def batch():
    boxes = np.zeros((3, 4, 4), np.float32)
    labels = np.full((3, 4), -1, np.int32)
    boxes[0, :2] = [[10, 10, 50, 60], [70, 70, 120, 120]]
    labels[0, :2] = [1, 0]
    image = np.full((3, 128, 128, 3), 70, np.uint8)
    return {"image": image, "boxes": boxes, "labels": labels, "mask": np.array([1, 1, 0], bool)}


def test_augmented_pictures(batch):
    first, empty = augmented_pictures(batch, NAMES)  # the third row is padding
    assert first.shape == (512, 512, 3)
    assert has_color(first, 0)
    assert has_color(first, 1)
    assert (empty == 70).all()


def test_matched_pictures(batch):
    first, empty = matched_pictures(batch, anchor_grid((128, 128)))
    assert has_color(first, 0)
    assert has_color(first, 1)
    assert (empty == 35).all()


def test_crowds_are_dashed():
    boxes = [[20, 20, 280, 240]]
    single, crowd = (
        annotated_picture(record(boxes, [0], [is_crowd]), NAMES) for is_crowd in (False, True)
    )
    color = np.array(class_color(0))[None, None]
    sides = [
        (picture[60:540, 40:44] == color).all(axis=2).any(axis=1) for picture in (single, crowd)
    ]
    assert sides[0].all()
    assert 0.2 < sides[1].mean() < 0.8


def test_dropped_boxes_are_dashed(batch):
    dropped = [
        (np.array([[20, 80, 40, 110]], np.float32), np.array([1])),
        (np.zeros((0, 4), np.float32), np.zeros(0, np.int32)),
    ]
    plain = augmented_pictures(batch, NAMES)
    first, empty = augmented_pictures(batch, NAMES, dropped=dropped)
    assert (empty == plain[1]).all()
    differs = np.argwhere((first != plain[0]).any(axis=2))
    assert differs.min() >= 4 * 10
    assert differs[:, 1].min() >= 4 * 80 - 4
    edge = (first[100:160, 4 * 110 - 1] == np.array(class_color(1))[None]).all(axis=1)
    assert 0.1 < edge.mean() < 0.9


def test_large_images_are_shrunk_before_they_are_drawn_on():
    encoded = cv2.imencode(".png", np.full((4000, 300, 3), 70, np.uint8))[1].tobytes()
    boxes = np.array([[1000, 100, 2000, 200]], np.float32)
    tall = Record(1, encoded, "a.png", boxes, np.zeros(1, np.int32), np.zeros(1, bool), np.ones(1))
    picture = annotated_picture(tall, NAMES, side=400)
    assert picture.shape == (400, 30, 3)
    assert has_color(picture[100:200, 10:20], 0)
    assert (picture[150, 12:18] == 70).all()
    assert (picture[210:] == 70).all()


@pytest.mark.parametrize("iou_threshold", [0.3, 0.5, 0.8])
def test_the_assignment_is_that_of_the_loss(batch, iou_threshold, monkeypatch):
    drawn = []

    def keep(image, anchors, matched_box, boxes, **_):
        drawn.append(matched_box)
        return image

    monkeypatch.setattr(data_pictures, "draw_matches", keep)
    anchors = anchor_grid((128, 128))
    matched_pictures(batch, anchors, iou_threshold)
    of_loss = jax.jit(assign, static_argnums=4)(
        anchors, batch["boxes"], batch["labels"], iou_threshold, None
    ).targets
    np.testing.assert_array_equal(np.stack(drawn), of_loss.matched_box[:2])
    assert (drawn[0] >= 0).any()
