import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bifpn_jax.data.label_map import LabelMap, ResultIds
from bifpn_jax.errors import UserError
from bifpn_jax.evaluation import results
from bifpn_jax.evaluation.coco_eval import evaluate_detections
from bifpn_jax.evaluation.metrics import SUMMARY_NAMES
from bifpn_jax.postprocessing import Detections

LABEL_MAP = LabelMap((1, 3, 90), ("person", "car", "toothbrush"))


def detections(boxes, scores, labels):
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(labels, np.int32),
    )


def test_format_and_category_ids():
    found = detections(
        [[10, 20, 40.5, 80.25], [0, 0, 0, 0], [1, 2, 3, 4]], [0.75, 0, 0.5], [2, -1, 0]
    )
    assert results.coco_results(np.int64(42), found, LABEL_MAP) == [
        {"image_id": 42, "category_id": 90, "bbox": [20.0, 10.0, 60.25, 30.5], "score": 0.75},
        {"image_id": 42, "category_id": 1, "bbox": [2.0, 1.0, 2.0, 2.0], "score": 0.5},
    ]


def test_values_are_plain_and_short():
    found = detections([[0.1, 0.2, 10.3, 20.4]], [1 / 3], [1])
    (result,) = results.coco_results(7, found, LABEL_MAP)
    assert json.dumps(result["bbox"]) == "[0.2, 0.1, 20.2, 10.2]"
    assert result["score"] == pytest.approx(1 / 3, abs=1e-8)
    assert type(result["image_id"]) is int
    assert type(result["category_id"]) is int


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.tuples(*[st.floats(0, 2000, width=32)] * 4),
            st.floats(0, 1, width=32),
            st.integers(-1, 2),
        ),
        max_size=8,
    )
)
def test_round_trip_of_any_detections(rows):
    found = detections(*(zip(*rows, strict=True) if rows else ([], [], [])))
    listed = results.coco_results(5, found, LABEL_MAP)
    used = found.labels >= 0
    assert len(listed) == used.sum()
    if listed:
        x, y, w, h = np.array([result["bbox"] for result in listed]).T
        boxes = np.stack([y, x, y + h, x + w], axis=1)
        np.testing.assert_allclose(boxes, found.boxes[used], atol=2e-3)
        ids = [result["category_id"] for result in listed]
        np.testing.assert_array_equal(LABEL_MAP.to_labels(ids), found.labels[used])
    assert json.loads(json.dumps(listed, allow_nan=False)) == listed


@pytest.mark.parametrize("field", ["boxes", "scores"])
def test_not_a_number_is_refused(field):
    found = detections([[0, 0, 1, 1]], [0.5], [0])
    broken = found._replace(**{field: getattr(found, field) * np.float32("nan")})
    with pytest.raises(UserError, match="image 3 is not a finite number"):
        results.coco_results(3, broken, LABEL_MAP)
    empty_slot = broken._replace(labels=np.array([-1], np.int32))
    assert results.coco_results(3, empty_slot, LABEL_MAP) == []


@pytest.mark.parametrize("number", [0, 1, 3])
def test_detections_file_round_trip(tmp_path, number):
    found = detections([[1, 2, 30, 40]] * number, [0.125] * number, [1] * number)
    listed = results.coco_results(9, found, LABEL_MAP)
    path = tmp_path / "new" / "detections.json"
    results.write_detections(path, listed)
    assert results.read_detections(path) == listed == json.loads(path.read_text())
    assert len(path.read_text().splitlines()) == (number + 2 if number else 1)
    assert os.listdir(path.parent) == ["detections.json"]


def test_metrics_file_round_trip(tmp_path):
    truth = {
        "images": [{"id": 1}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50]}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    metrics = evaluate_detections(truth, [])
    path = tmp_path / "metrics.json"
    results.write_metrics(path, metrics)
    assert results.read_metrics(path).to_json() == metrics.to_json()
    assert json.loads(path.read_text())["per_class"] == {"cat": 0.0, "dog": None}


@pytest.mark.parametrize("limit", [1, 5, 100, 150])
def test_metrics_file_says_its_limit(tmp_path, limit):
    truth = {
        "images": [{"id": 1}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50]}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    metrics = evaluate_detections(truth, [], max_detections=limit)
    path = tmp_path / "metrics.json"
    results.write_metrics(path, metrics, step=3)
    values = json.loads(path.read_text())
    assert values["max_detections"] == limit
    assert {"AR1", "AR10", "AR100", f"AR{limit}"} == {k for k in values if k[2:].isdecimal()} - {
        "AP50",
        "AP75",
    }
    assert results.read_metrics(path).to_json() == metrics.to_json()


def test_metrics_without_a_limit_are_at_that_of_coco(tmp_path):
    path = tmp_path / "metrics.json"
    values = dict.fromkeys(SUMMARY_NAMES, 0.25)
    values |= {"per_class": {"cat": 0.25}, "num_images": 1, "num_detections": 2}
    path.write_text(json.dumps(values))
    assert results.read_metrics(path).max_detections == 100
    for wrong in ("100", None, 150):  # and 150 lacks its AR150
        path.write_text(json.dumps({**values, "max_detections": wrong}))
        with pytest.raises(UserError, match="does not hold the metrics"):
            results.read_metrics(path)


def test_labels_that_the_file_does_not_have_are_left_out():
    found = detections([[0, 0, 1, 1]] * 3, [0.75, 0.5, 0.25], [1, 0, 2])
    listed = results.coco_results(5, found, ResultIds((7, None, 3)))
    assert [(entry["category_id"], entry["score"]) for entry in listed] == [(7, 0.5), (3, 0.25)]


def test_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "detections.json"
    old = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}
    results.write_detections(path, [old])
    with pytest.raises(ValueError, match="not JSON compliant"):
        results.write_detections(path, [{"score": float("nan")}])
    assert results.read_detections(path) == [old]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot read"), ("[{", "not valid JSON"), ("{}", "list of detections")],
)
def test_unreadable_detections(tmp_path, content, message):
    path = tmp_path / "detections.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        results.read_detections(path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"AP": 0.5}'])
def test_unreadable_metrics(tmp_path, content):
    path = tmp_path / "metrics.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"metrics\.json does not hold the metrics"):
        results.read_metrics(path)
