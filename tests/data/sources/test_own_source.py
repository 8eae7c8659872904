"""A format of one's own: a function in a file outside of the checkout."""

import csv

import numpy as np
import pytest

from bifpn_jax.data.sources.box_list import LabelledBox, source_of_boxes
from bifpn_jax.data.sources.opening import open_source
from bifpn_jax.data.sources.shapes import DrawnShapes
from bifpn_jax.data.sources.source_settings import SourceSettings
from bifpn_jax.errors import UserError
from bifpn_jax.named_parts import trust_code
from bifpn_jax.recipe import building
from bifpn_jax.recipe.checks import check_config

CODE = """
import csv
from bifpn_jax.data.sources.box_list import LabelledBox, source_of_boxes

def open_csv(settings):
    settings.need_files("csv")
    boxes = []
    with open(settings.annotations, newline="") as file:
        for row in csv.DictReader(file):
            box = [float(row[side]) for side in ("y0", "x0", "y1", "x1")]
            boxes.append(LabelledBox(row["file"], box, row["class"]))
    names = ("circle", "square", "triangle", "ring")
    return source_of_boxes(settings, boxes, class_names=names)

def open_nothing(settings):
    return [1, 2]

def open_badly(settings):
    return settings.nothing
"""


def write_csv(folder, split, count):
    """Images of drawn shapes and their boxes as lines of a CSV file."""
    shapes = DrawnShapes(count, split=split, sides=(48, 72))
    images = folder / split
    images.mkdir()
    rows = []
    for record in (shapes[i] for i in range(count)):
        (images / record.where).write_bytes(record.encoded)
        for (y0, x0, y1, x1), label in zip(record.boxes.tolist(), record.labels, strict=True):
            rows.append([record.where, x0, y0, x1, y1, shapes.label_map.names[label]])
    with (folder / f"{split}.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "x0", "y0", "x1", "y1", "class"], *rows])
    return images, folder / f"{split}.csv", shapes


@pytest.fixture
def own(tmp_path):
    """The place of a function in the file."""
    file = tmp_path / "formats.py"
    names = DrawnShapes(1).label_map.names
    file.write_text(CODE.replace('("circle", "square", "triangle", "ring")', repr(names)))
    return lambda name: f"{file}:{name}"


@pytest.fixture
def csv_config(tmp_path, own, tiny_config):
    """The tiny run's config, on images and boxes of CSV files; and the same images as drawn."""
    train = write_csv(tmp_path, "train", 20)
    evaluation = write_csv(tmp_path, "validation", 11)
    config = tiny_config()
    config.data.source = own("open_csv")
    config.data.update({"train_images": str(train[0]), "train_annotations": str(train[1])})
    config.data.update({"eval_images": str(evaluation[0]), "eval_annotations": str(evaluation[1])})
    return config, train[2], evaluation[2]


def test_a_csv_file_is_read_as_its_boxes_say(csv_config):
    config, train, evaluation = csv_config
    check_config(config)
    source, other = building.sources(config)
    assert source.label_map == other.label_map == train.label_map
    assert len(source) == 20
    assert len(other) == (evaluation.box_counts() > 0).sum()  # a CSV file has no others
    drawn = {train[i].where: train[i] for i in range(20)}
    for record in (source[i] for i in range(20)):
        expected = drawn[record.where.rpartition("/")[2]]
        np.testing.assert_allclose(record.boxes, expected.boxes, atol=1e-4)
        assert record.labels.tolist() == expected.labels.tolist()
        assert record.original_hw == expected.original_hw
    assert source.box_counts().sum() == train.box_counts().sum()
    assert "20 images (0 without objects)" in source.summary()
    assert len(source.ground_truth()["annotations"]) == train.box_counts().sum()
    batch = next(building.training_batches(config, building.model(config, train.label_map), source))
    assert batch["image"].shape == (8, 64, 64, 3)
    assert (batch["labels"] >= 0).any()


@pytest.mark.slow
def test_a_csv_file_is_trained_on(csv_config, run_training, tmp_path):
    config, *_ = csv_config
    run_training(config, tmp_path / "run")
    assert (tmp_path / "run" / "metrics.json").exists()


def test_code_that_nobody_named_is_not_run(own):
    with pytest.raises(
        UserError, match="open_csv is code in a file, which is not run without consent"
    ):
        open_source(own("open_csv"), "train")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("open_csv", "the csv source needs eval_images=DIR"),
        ("open_nothing", "open_nothing returns list, which has no name, label_map, left_out, box_"),
        ("open_badly", r"open_badly fails: AttributeError: .*nothing.*formats.py, line \d+\)"),
        ("open_cvs", "did you mean open_csv"),
    ],
)
def test_what_is_no_source_is_one_line(own, name, said):
    trust_code(own(name))
    with pytest.raises(UserError, match=said) as error:
        open_source(own(name), "eval")
    assert "\n" not in str(error.value)


def test_a_function_opens_a_source_as_well():
    shapes = DrawnShapes(2)
    assert open_source(lambda settings: shapes, "train") is shapes


def test_a_list_of_boxes_is_checked_as_a_coco_file_is(coco_folder):
    settings = SourceSettings(
        "train", train_images=coco_folder.images, train_annotations="boxes.csv"
    )
    boxes = [
        LabelledBox("b.png", [1, 2, 30, 20], "dog"),
        LabelledBox("b.png", [5, 5, 20, 25], "cat", is_crowd=True),
    ]
    source = source_of_boxes(settings, boxes, ["cat", "dog"], empty=["a.jpg"])
    assert source.box_counts().tolist() == [1, 0]
    assert source[0].boxes.tolist() == [[1, 2, 30, 20], [5, 5, 20, 25]]
    assert source[0].labels.tolist() == [1, 0]
    assert source[0].is_crowd.tolist() == [False, True]
    assert source[1].original_hw == (40, 60)
    with pytest.raises(UserError, match=r"boxes.csv: box 1 \(b.png\) is of the class 'cow'"):
        source_of_boxes(settings, [LabelledBox("b.png", [1, 2, 3, 4], "cow")], ["cat", "dog"])
    with pytest.raises(UserError, match=r"1 of the 1 images named in boxes.csv are missing"):
        source_of_boxes(settings, [LabelledBox("c.png", [1, 2, 3, 4], "cat")], ["cat"])
    outside = [*boxes, LabelledBox("b.png", [1, 2, 300, 20], "dog")]
    with pytest.raises(UserError, match=r"boxes.csv: annotation 3 \(image 1.*set bad_boxes=skip"):
        source_of_boxes(settings, outside, ["cat", "dog"])
