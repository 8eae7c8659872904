"""Boxes stay with their pixels, checked on rectangles of one colour each.

A resized pixel is mixed from the two source pixels nearest to its centre along either axis. Where
the centre is outside of a rectangle, half or more of the mixture is something else; where it is
half a source pixel or more inside, all of it is the rectangle. So a rectangle's pure colour lies
inside its box and fills it but for half a (resized) source pixel on each side, and no more than
that is tolerated below.
"""

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bifpn_jax.data.augment.augmentation import Example, Placing, fault
from bifpn_jax.data.augment.flip import mirrored as mirror
from bifpn_jax.data.augment.placing import place, resize
from bifpn_jax.data.records import Record
from bifpn_jax.data.rows import evaluation_row, training_row
from properties.strategies import COLOURS, painted_images

ROUNDING = 2  # levels of 255, for the fixed-point arithmetic of OpenCV and of Pillow

frames = st.tuples(st.integers(8, 128), st.integers(8, 128))
places = st.sampled_from([0.0, 0.5, 1 - 2**-53]) | st.floats(0, 1, exclude_max=True)
jitters = st.builds(Placing, st.floats(0.1, 3.0), st.tuples(places, places))


def shown(image, label):
    """Where [H, W] an image shows a colour that is not mixed with others."""
    off = np.abs(image.astype(int) - COLOURS[label].astype(int)[None, None]).max(axis=2)
    return off <= ROUNDING


def within(size, low, high, margin=0.0):
    """Pixels [size] whose centres lie at least margin inside of [low, high]."""
    centres = np.arange(size) + 0.5
    return (centres >= low + margin) & (centres <= high - margin)


def covered(hw, box, margin=0.0):
    """Pixels [H, W] whose centres lie at least margin, a number for each axis, inside of a box."""
    rows, columns = (
        within(side, low, high, by)
        for side, low, high, by in zip(
            hw, box[:2], box[2:], np.broadcast_to(margin, 2), strict=True
        )
    )
    return rows[:, None] & columns[None]


def check_boxes_fit(image, boxes, labels, painted, margin):
    """The pixels of each colour lie in the box with its label and fill it up to the margin.

    The frame's last row and column are in no box, since boxes end at size - 1 as published.
    """
    hw = image.shape[:2]
    assert set(labels.tolist()) <= set(painted.labels.tolist())
    assert len(set(labels.tolist())) == len(labels)
    for label in painted.labels:
        colour = shown(image, label)
        own = boxes[labels == label]
        if not len(own):
            assert not colour[:-1, :-1].any(), "a box of which something is left was removed"
            continue
        (box,) = own
        reaches_end = box[2:] == np.array(hw) - 1
        to_the_end = np.where(reaches_end, hw, box[2:])
        outside = ~covered(hw, [*box[:2], *to_the_end])
        assert not (colour & outside).any(), "pixels outside of their box"
        assert colour[covered(hw, box, margin)].all(), "a box that its pixels do not fill"


def margin_of(example_scale, antialias, image_hw):
    """Half a resized source pixel; with antialiasing not less than one pixel.

    A thin image keeps one pixel, so that it may be scaled by more than the scale says.
    """
    by = np.maximum(1 / example_scale, 1 / np.array(image_hw))
    return np.maximum(by / 2, 1) if antialias else by / 2


@given(painted_images())
def test_flipped_boxes_hold_exactly_their_pixels(painted):
    flipped = mirror(Example(*painted))
    assert not fault(flipped)
    image, boxes, *_ = flipped
    for box, label in zip(boxes, painted.labels, strict=True):
        np.testing.assert_array_equal(shown(image, label), covered(image.shape[:2], box))
    back, back_boxes, *_ = mirror(flipped)
    np.testing.assert_array_equal(back, painted.image)
    np.testing.assert_array_equal(back_boxes, painted.boxes)


@given(painted_images(), frames, st.booleans())
def test_resized_boxes_hold_their_pixels(painted, hw, antialias):
    image = resize(painted.image, hw, antialias)
    assert image.shape == (*hw, 3)
    factors = np.array(hw) / painted.image.shape[:2]
    boxes = painted.boxes * np.tile(factors, 2)[None]
    margin = np.maximum(factors / 2, 1) if antialias else factors / 2
    check_boxes_fit(image, boxes, painted.labels, painted, margin)


@given(painted_images(), frames, st.booleans())
def test_letterboxed_boxes_hold_their_pixels(painted, frame_hw, antialias):
    example = place(Example(*painted), frame_hw, antialias)
    margin = margin_of(example.scale, antialias, painted.image.shape[:2])
    check_boxes_fit(example.image, example.boxes, example.labels, painted, margin)
    height, width = example.content_hw
    assert not example.image[height:].any()
    assert not example.image[:, width:].any()


@given(painted_images(), frames)
def test_letterboxed_boxes_come_back_by_their_scale(painted, frame_hw):
    example = place(Example(*painted), frame_hw)
    original = painted.boxes[[painted.labels.tolist().index(i) for i in example.labels]]
    # Truncation makes the content up to a network pixel smaller, clipping a box up to another.
    off = np.abs(example.boxes * np.float64(example.scale) - original)
    assert (off <= 2 * example.scale * (1 + 1e-6)).all()


@given(painted_images(), frames, jitters, st.booleans(), st.booleans())
def test_jittered_boxes_hold_their_pixels(painted, frame_hw, jitter, mirrored, antialias):
    example = Example(*painted, jitter)
    example = mirror(example) if mirrored else example
    image = example.image
    example = place(example, frame_hw, antialias)
    assert example.image.shape == (*frame_hw, 3)
    assert (example.boxes[:, 2:] > example.boxes[:, :2]).all()
    assert (example.boxes >= 0).all()
    assert (example.boxes[:, 2:] <= np.array(frame_hw)[None] - 1).all()
    margin = margin_of(example.scale, antialias, image.shape[:2])
    check_boxes_fit(example.image, example.boxes, example.labels, painted, margin)
    height, width = example.content_hw
    assert not example.image[height:].any()
    assert not example.image[:, width:].any()


def record_of(painted, is_crowd):
    encoded = cv2.imencode(".png", cv2.cvtColor(painted.image, cv2.COLOR_RGB2BGR))[1].tobytes()
    area = (painted.boxes[:, 2:] - painted.boxes[:, :2]).prod(axis=1)
    hw = painted.image.shape[:2]
    return Record(7, encoded, "x.png", painted.boxes, painted.labels, is_crowd, area, hw)


def check_row(row, painted, is_crowd, max_boxes):
    """What a row says about its boxes is true, and its pixels are where it says."""
    used = row["labels"] >= 0
    number = used.sum()
    assert used[:number].all()
    assert (row["boxes"][number:] == 0).all()
    assert number <= max_boxes
    assert row["original_hw"].tolist() == list(painted.image.shape[:2])
    seen = painted._replace(boxes=painted.boxes[~is_crowd], labels=painted.labels[~is_crowd])
    labels = row["labels"][:number]
    assert set(labels.tolist()) <= set(seen.labels.tolist())
    if row["dropped_boxes"] == 0:
        margin = margin_of(row["scale"].item() * (1 - 1e-6), False, painted.image.shape[:2])
        check_boxes_fit(row["image"], row["boxes"][:number], labels, seen, margin)
    else:
        assert number == max_boxes


@given(st.data(), painted_images(), frames, jitters, st.booleans(), st.integers(1, 5))
def test_rows_of_training_hold_boxes_and_pixels(data, painted, frame_hw, jitter, mirrored, room):
    is_crowd = np.array([data.draw(st.booleans()) for _ in painted.labels], bool)
    out = np.full((*frame_hw, 3), 77, np.uint8)

    def augment(example):
        example = example._replace(placing=jitter)
        return mirror(example) if mirrored else example

    options = {"augment": augment, "antialias": False}
    row = training_row(record_of(painted, is_crowd), out, max_boxes=room, **options)
    assert np.shares_memory(row["image"], out)
    check_row(row, painted, is_crowd, room)


@given(st.data(), painted_images(), frames, st.integers(1, 5))
def test_rows_of_evaluation_hold_boxes_and_pixels(data, painted, frame_hw, room):
    is_crowd = np.array([data.draw(st.booleans()) for _ in painted.labels], bool)
    out = np.full((*frame_hw, 3), 77, np.uint8)
    row = evaluation_row(record_of(painted, is_crowd), out, max_boxes=room, antialias=False)
    assert np.shares_memory(row["image"], out)
    check_row(row, painted, is_crowd, room)


@given(painted_images(), frames, st.integers(1, 4))
def test_a_row_without_room_keeps_the_largest_boxes_in_their_order(painted, frame_hw, room):
    nothing = np.zeros(len(painted.labels), bool)
    out = np.empty((*frame_hw, 3), np.uint8)
    record = record_of(painted, nothing)
    full = evaluation_row(record, out, max_boxes=4, antialias=False)
    row = evaluation_row(record, out, max_boxes=room, antialias=False)
    number = int((full["labels"] >= 0).sum())
    kept = row["labels"][row["labels"] >= 0].tolist()
    assert len(kept) == min(number, room)
    assert row["dropped_boxes"] == number - len(kept)
    everyone = full["labels"][:number].tolist()
    assert kept == [label for label in everyone if label in kept]
    area = dict(
        zip(everyone, np.prod(full["boxes"][:, 2:] - full["boxes"][:, :2], 1), strict=False)
    )
    smallest = min((area[label] for label in kept), default=0)
    assert all(area[label] <= smallest for label in set(everyone) - set(kept))
