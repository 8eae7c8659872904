import numpy as np
import pytest

from bifpn_jax.data.records import load_image
from bifpn_jax.data.sources.shape_drawing import CLASSES, draw_image
from bifpn_jax.data.sources.shapes import DrawnShapes, draw_record, prepare_shapes, shapes_config
from bifpn_jax.data.sources.tfds_set import TfdsRecords
from bifpn_jax.errors import UserError

SMALL = {"num_train": 12, "num_eval": 5, "sides": (48, 64), "max_shapes": 4, "seed": 2}
DRAWING = {"sides": (48, 64), "max_shapes": 4, "seed": 2}


def test_an_image_is_a_function_of_its_generator():
    for a, b in zip(
        draw_image(np.random.default_rng(1)), draw_image(np.random.default_rng(1)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(draw_record(0).encoded, draw_record(1).encoded)
    assert not np.array_equal(draw_record(0).encoded, draw_record(0, seed=1).encoded)
    assert not np.array_equal(draw_record(0).encoded, draw_record(0, split="validation").encoded)
    assert draw_record(5).encoded == draw_record(5).encoded


def test_the_set_is_what_it_should_be():
    drawn = [draw_image(np.random.default_rng(i)) for i in range(200)]
    for image, boxes, labels, areas in drawn:
        assert image.dtype == np.uint8
        height, width = image.shape[:2]
        assert 80 <= height <= 112
        assert 80 <= width <= 112
        assert boxes.shape == (len(labels), 4)
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= np.array([height, width])[None]).all()
        sides = boxes[:, 2:] - boxes[:, :2]
        assert (sides >= 3).all()
        assert (areas > 0).all()
        assert (areas <= sides.prod(axis=1)).all()
    labels = np.concatenate([labels for _, _, labels, _ in drawn])
    assert (np.bincount(labels, minlength=len(CLASSES)) > 50).all()
    counts = np.array([len(labels) for _, _, labels, _ in drawn])
    assert 5 <= (counts == 0).sum() <= 30
    assert counts.max() == 5
    boxes = np.concatenate([boxes for _, boxes, _, _ in drawn])
    size = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    assert size.min() < 12
    assert size.max() > 90


def test_boxes_fit_the_pixels_of_their_shapes():
    """A single shape is told from the background by drawing the same image without it."""
    tight = 0
    for seed in range(60):
        image, boxes, _, _ = draw_image(np.random.default_rng(seed), max_shapes=1)
        if len(boxes) != 1:
            continue
        y0, x0, y1, x1 = boxes[0].astype(int)
        inside = image[y0:y1, x0:x1].astype(float)
        # The shape touches all four sides of its box, so each outer line differs from the next
        # line outside of the box more than grain does.
        if min(y0, x0) < 1 or y1 >= image.shape[0] or x1 >= image.shape[1]:
            continue
        steps = [
            np.abs(inside[0] - image[y0 - 1, x0:x1]).max(),
            np.abs(inside[-1] - image[y1, x0:x1]).max(),
            np.abs(inside[:, 0] - image[y0:y1, x0 - 1]).max(),
            np.abs(inside[:, -1] - image[y0:y1, x1]).max(),
        ]
        assert min(steps) > 15
        tight += 1
    assert tight > 20


def test_drawn_shapes_are_a_source():
    source = DrawnShapes(6, seed=1, sides=(64, 64))
    assert len(source) == 6
    assert load_image(source[0]).shape == (64, 64, 3)
    assert source.box_counts().tolist() == [len(record.boxes) for record in source]
    truth = source.ground_truth()
    assert [image["id"] for image in truth["images"]] == [1, 2, 3, 4, 5, 6]
    assert len(truth["annotations"]) == source.box_counts().sum()
    assert truth["categories"][0] == {"id": 1, "name": "circle"}
    assert "4 classes" in source.summary()


def test_the_prepared_set_is_the_drawn_one_and_is_reused(tmp_path, capsys):
    name = prepare_shapes(tmp_path, **SMALL)
    assert capsys.readouterr().out == ""
    train = TfdsRecords(name, "train", tmp_path)
    validation = TfdsRecords(name, "validation", tmp_path)
    assert (len(train), len(validation)) == (12, 5)
    assert train.label_map == validation.label_map == DrawnShapes(1).label_map
    for i in range(12):
        drawn, read = draw_record(i, **DRAWING), train[i]
        assert read.encoded == drawn.encoded
        assert (read.image_id, read.where) == (drawn.image_id, drawn.where)
        assert read.original_hw == drawn.original_hw
        np.testing.assert_allclose(read.boxes, drawn.boxes, atol=1e-4)
        np.testing.assert_array_equal(read.labels, drawn.labels)
        np.testing.assert_array_equal(read.area, drawn.area)
        assert not read.is_crowd.any()
    assert train.box_counts().tolist() == [len(record.boxes) for record in train]
    truth = DrawnShapes(5, split="validation", **DRAWING).ground_truth()
    prepared = validation.ground_truth()
    assert prepared["images"] == truth["images"]
    unnumbered = [
        [{**entry, "id": 0} for entry in content["annotations"]] for content in (prepared, truth)
    ]
    assert unnumbered[0] == unnumbered[1]
    numbers = [entry["id"] for entry in prepared["annotations"]]
    assert len(set(numbers)) == len(numbers)
    assert min(numbers) > 0

    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert prepare_shapes(tmp_path, **SMALL) == name
    assert files == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}


def test_other_options_are_another_set():
    assert shapes_config().name != shapes_config(seed=1).name
    assert shapes_config(sides=(64, 96)).name != shapes_config(sides=(64, 97)).name


@pytest.mark.parametrize(
    "options", [{"num_train": 0}, {"num_eval": 0}, {"sides": (64, 32)}, {"sides": (4, 8)}]
)
def test_impossible_options(options):
    with pytest.raises(UserError, match="shapes: cannot draw"):
        shapes_config(**options)
