"""Custom parts with plausible mistakes are refused in one line that names them."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_model import tiny_model

from bifpn_jax import named_parts
from bifpn_jax.data.augment.applying import find_steps
from bifpn_jax.data.records import Record
from bifpn_jax.data.rows import read_example
from bifpn_jax.data.sources.shapes import DrawnShapes
from bifpn_jax.errors import UserError
from bifpn_jax.evaluation.own_metrics import own_metrics
from bifpn_jax.exporting import Exporter, export_detector
from bifpn_jax.losses import LossSettings, detection_loss
from bifpn_jax.matching import Targets
from bifpn_jax.models.initial_values import variable_shapes
from bifpn_jax.train.optimizer import make_optimizer
from bifpn_jax.train.schedule import make_schedule
from bifpn_jax.trained import Detector, evaluate_detector


@pytest.fixture
def code(tmp_path):
    """Writes parts.py and returns the place of a name in it, trusted."""

    def write(text, name="part", file="parts.py"):
        (tmp_path / file).write_text(text)
        place = f"{tmp_path / file}:{name}"
        named_parts.trust_code(place)
        return place

    return write


MODULE = """
import flax.linen as nn
import jax.numpy as jnp

class part(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        {body}
"""


@pytest.mark.parametrize(
    ("field", "body", "said"),
    [
        (
            "backbone",
            "return {5: x, 6: x}",
            r"returns \[1, 128, 128, 3\] at level 5 .* at stride 32",
        ),
        ("backbone", "return [x]", r"backbone=.*parts.py:part fails: AttributeError"),
        ("backbone", "return {5: x[:, ::32, ::32]}.x", r"AttributeError: .*parts.py, line 8\)"),
        (
            "feature_network",
            "return {5: x[5], 6: x[5]}",
            r"feature network returns .* at level 6 .* at stride 64",
        ),
        ("norm", "return None", r"the model with norm=.*parts.py:part fails"),
    ],
)
def test_modules(field, body, said, code):
    with pytest.raises(UserError, match=said):
        variable_shapes(tiny_model(**{field: code(MODULE.format(body=body))}))


def test_an_activation(code):
    place = code("def part(x):\n    if x > 0:\n        return x\n    return 0 * x")
    with pytest.raises(UserError, match=r"activation=.* fails: \w+Error: .*line 2\)"):
        variable_shapes(tiny_model(activation=place))


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (lambda: optax.adam(1e-3), "returns updates against the gradient"),
        (lambda clip: optax.chain(clip, optax.sgd(0.1)), "returns updates against the gradient"),
        (lambda: None, "returns NoneType, not an optax transformation"),
        (lambda lr: optax.scale_by_adam(lr), r"fails: TypeError: .*'lr'"),
    ],
)
def test_optimizers(part, said):
    with pytest.raises(UserError, match=said):
        make_optimizer(optax.constant_schedule(0.1), {"kernel": jnp.ones(3)}, name=part)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (lambda step, peak: -peak, "returns -0.1.* at step 2; return 0 or more"),
        (lambda step, peak: jnp.nan, "returns nan at step 2"),
        (lambda step, peek: peek, r"fails: TypeError: .*'peek'"),
        (lambda step, peak: peak if step < 5 else 0.0, "fails: TracerBoolConversionError"),
        (lambda step, peak: jnp.full(3, peak), r"returns \[3\]; return a number"),
    ],
)
def test_schedules(part, said):
    with pytest.raises(UserError, match=said):
        make_schedule(peak=0.1, total_steps=10, warmup_steps=2, decay=part)


@pytest.mark.parametrize(
    ("field", "part", "said"),
    [
        ("class_loss", lambda logits, targets: jnp.square(logits).sum(-1), r"\[2, 6\], not an arr"),
        ("class_loss", lambda logits, targets: None, "returns NoneType, not an array"),
        ("box_loss", lambda codes, targets, anchors: codes, r"returns \[2, 6, 4\], not an array"),
        ("box_loss", lambda codes, targets, anchors: 1 / 0, r"box_loss .* fails: ZeroDivision"),
    ],
)
def test_losses(field, part, said):
    targets = Targets(jnp.full((2, 6), -1), jnp.zeros((2, 6, 4)), jnp.zeros(2), 0)
    with pytest.raises(UserError, match=said):
        detection_loss(
            jnp.zeros((2, 6, 3)),
            jnp.zeros((2, 6, 4)),
            targets,
            jnp.float32(1),
            jnp.zeros((6, 4)),
            LossSettings(**{field: part}),
        )


def in_place(example, rng):
    example.boxes[:] = example.boxes * 3
    return example


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (in_place, "makes boxes that are not"),
        (lambda e, rng: e._replace(labels=e.labels + 1), "makes the label 1; there are 1 classes"),
        (lambda e, rng: e._replace(labels=e.labels - 1), "makes the label -1"),
    ],
)
def test_augmentations(part, said):
    with pytest.raises(UserError, match=said):
        find_steps([part])


GOOD = DrawnShapes(1)[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": np.int32([4])}, r"its labels \[4\] are not from 0 to 4 - 1"),
        ({"labels": np.int32([-1])}, r"its labels \[-1\]"),
        ({"labels": np.float32([0.7])}, "its labels are not an int32 array"),
        ({"labels": np.int32([0, 0])}, "it has 1 boxes, 2 labels and 1 is_crowd"),
        ({"boxes": np.float16([[1, 2, 3, 4]])}, "its boxes are not a float32 array"),
        ({"boxes": np.float32([[3, 4, 1, 2]])}, "it has boxes that are not y0 <= y1"),
        ({"boxes": np.float32([[1, 2, np.nan, 4]])}, "it has boxes that are not y0 <= y1"),
    ],
)
def test_records(change, said):
    one = {"boxes": np.float32([[1, 2, 3, 4]]), "labels": np.int32([0]), "is_crowd": np.array([0])}
    record = Record(1, GOOD.encoded, "a.png", area=np.float32([4]), **{**one, **change})
    with pytest.raises(UserError, match=rf"a\.png: {said}.*; correct it in the source"):
        read_example(record, 4)


def test_a_negative_label_where_the_classes_are_unknown():
    one = np.float32([[1, 2, 3, 4]])
    record = Record(1, GOOD.encoded, "a.png", one, np.int32([-1]), np.array([0]), np.float32([4]))
    with pytest.raises(UserError, match=r"its labels \[-1\] are not from 0; correct"):
        read_example(record)


def test_crowds_may_be_numbers():
    boxes = np.float32([[1, 2, 3, 4], [5, 6, 7, 8]])
    crowd = np.array([0, 1])
    record = Record(1, GOOD.encoded, "a.png", boxes, np.int32([2, 3]), crowd, np.float32([4, 4]))
    example = read_example(record, 4)
    np.testing.assert_array_equal(example.boxes, boxes[:1])
    np.testing.assert_array_equal(example.labels, [2])


def test_a_metric_cannot_change_detections():
    def part(ground_truth, detections):
        detections[0]["bbox"][2] = ground_truth["images"].pop()
        return {"mine": 1.0}

    truth, found = {"images": [7]}, [{"bbox": [1, 2, 3, 4]}]
    assert own_metrics([part], truth, found) == {"mine": 1.0}
    assert truth == {"images": [7]}
    assert found == [{"bbox": [1, 2, 3, 4]}]
    with pytest.raises(UserError, match="3 is no name"):
        own_metrics([lambda truth, found: {3: 1.0}], truth, found)


@pytest.fixture
def detector():
    return object.__new__(Detector)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda detector, path: None, "has written nothing, not mine.npz"),
        (lambda detector, path: path.with_suffix(".x").touch(), "has written mine.x, not mine.npz"),
        (lambda detector, path: path.mkdir(), "has written mine.npz, not mine.npz"),
        (lambda detector, path: path.touch() or 1 / 0, "format .npz fails: ZeroDivisionError"),
    ],
)
def test_exporters(write, said, detector, tmp_path):
    with pytest.raises(UserError, match=said):
        export_detector(detector, tmp_path / "mine.npz", format=Exporter(".npz", write))
    assert not list(tmp_path.iterdir())


def test_other_files_of_an_exporter_lie_beside_it(detector, tmp_path):
    def write(detector, path):
        path.write_text("weights")
        path.with_suffix(".json").write_text("facts")

    export_detector(detector, tmp_path / "mine.npz", format=Exporter(".npz", write))
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "mine.npz": "weights",
        "mine.json": "facts",
    }


def test_what_is_no_detector(tmp_path):
    with pytest.raises(UserError, match="this is a function, and a Detector is needed"):
        export_detector(lambda image: None, tmp_path / "mine.safetensors")
    with pytest.raises(UserError, match="this is a function, and a Detector is needed"):
        evaluate_detector(lambda image: None, DrawnShapes(1))


@pytest.mark.parametrize("text", ["import sys\nsys.exit(0)", "1 / 0", "def f(:"])
def test_modules_that_do_not_run(text, tmp_path, monkeypatch):
    (tmp_path / "some_module_of_mine.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for place in (f"{tmp_path}/some_module_of_mine.py:f", "some_module_of_mine:f"):
        named_parts.trust_code(place)
        with pytest.raises(UserError, match=r"some_module_of_mine.* does not run: \w+"):
            named_parts.load_code(place)


def test_a_file_with_the_name_of_a_module(code):
    text = "import csv\ndef part(w): return list(csv.reader(['1,2']))"
    assert named_parts.load_code(code(text, file="csv.py"))(0) == [["1", "2"]]
