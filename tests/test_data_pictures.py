import cv2
import numpy as np
import pytest

from bifpn_jax.anchors import anchor_grid
from bifpn_jax.data.records import Record
from bifpn_jax.data_pictures import annotated_picture, augmented_pictures, matched_pictures
from bifpn_jax.drawing import class_color

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
