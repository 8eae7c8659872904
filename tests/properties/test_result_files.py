"""Files of detections and of metrics: what is written is read, and what is wrong is refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.evaluation import results
from bifpn_jax.evaluation.coco_eval import evaluate_detections
from bifpn_jax.evaluation.metrics import SUMMARY_NAMES, CocoMetrics
from bifpn_jax.postprocessing import Detections
from properties.json_damage import TOO_MUCH, answer, damaged, spoiled_texts
from properties.strategies import arrays, floats

D = 5
ROUNDING = 0.0005 * (1 + 1e-6)  # of a box in a file, pixels

ids = st.integers(1, 2**40)
shares = st.floats(0, 1)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("results") / "file.json"


@st.composite
def label_maps(draw):
    category_ids = draw(st.lists(ids, min_size=1, max_size=6, unique=True))
    return LabelMap(tuple(category_ids), tuple(f"class {i}" for i in category_ids))


@st.composite
def detections(draw, num_classes):
    """Slots in any order, some of them empty; empty ones may hold anything."""
    labels = draw(arrays(D, st.integers(-1, num_classes - 1), np.int32))
    corners = draw(arrays((D, 2), floats(0, 2000)))
    sides = draw(arrays((D, 2), floats(0, 2000)))
    boxes = np.concatenate([corners, corners + sides], axis=1)
    boxes[labels < 0] = np.nan
    return Detections(boxes, draw(arrays(D, floats(0, 1))), labels)


@st.composite
def scenes(draw):
    """A ground truth with as little in it as is allowed, and detections in COCO's format."""
    images = [{"id": i} for i in draw(st.lists(ids, min_size=1, max_size=3, unique=True))]
    classes = draw(st.lists(ids, min_size=1, max_size=3, unique=True))
    side = st.integers(1, 200) | st.floats(0.5, 200)

    def entry():
        return {
            "image_id": draw(st.sampled_from(images))["id"],
            "category_id": draw(st.sampled_from(classes)),
            "bbox": [draw(side) for _ in range(4)],
        }

    objects = [entry() for _ in range(draw(st.integers(1, 4)))]
    for one in objects:
        one |= draw(st.sampled_from([{}, {"area": 100.5}, {"iscrowd": 1}, {"iscrowd": 0}]))
    found = [entry() | {"score": draw(shares)} for _ in range(draw(st.integers(1, 4)))]
    categories = [{"id": i, "name": f"class {i}"} for i in classes]
    return {"images": images, "annotations": objects, "categories": categories}, found


def check_metrics(metrics):
    """Every number is in [0, 1] or undefined, and the text is plain JSON."""
    values = list(metrics.summary.values()) + list(metrics.per_class.values())
    assert all(np.isnan(value) or 0 <= value <= 1 for value in values)
    json.dumps(metrics.to_json(), allow_nan=False)


@given(data=st.data(), label_map=label_maps(), image_id=ids)
def test_detections_are_written_and_read_back(path, data, label_map, image_id):
    found = data.draw(detections(len(label_map)))
    listed = results.coco_results(image_id, found, label_map)
    results.write_detections(path, listed)
    again = results.read_detections(path)
    assert again == listed

    used = found.labels >= 0
    assert all(result["image_id"] == image_id for result in again)
    category_ids = [result["category_id"] for result in again]
    np.testing.assert_array_equal(label_map.to_labels(category_ids), found.labels[used])
    boxes = found.boxes[used].astype(np.float64)
    sides = boxes[:, 2:] - boxes[:, :2]
    expected = np.concatenate([boxes[:, 1::-1], sides[:, ::-1]], axis=1)
    written = np.array([result["bbox"] for result in again]).reshape(-1, 4)
    np.testing.assert_allclose(written, expected, rtol=0, atol=ROUNDING)
    scores = [result["score"] for result in again]
    np.testing.assert_allclose(scores, found.scores[used], rtol=0, atol=0.51e-8)


@given(scene=scenes(), data=st.data())
def test_a_damaged_file_of_detections_is_refused_in_one_line_or_usable(path, scene, data):
    truth, found = scene
    broken = data.draw(damaged(found))
    path.write_text(json.dumps(broken))
    listed = answer(lambda: results.read_detections(path), str(path))
    if listed is not None:
        assert listed == broken
        metrics = answer(lambda: evaluate_detections(truth, listed))
        if metrics is not None:
            check_metrics(metrics)


@given(scene=scenes(), data=st.data())
def test_damaged_detections_are_evaluated_or_refused_in_one_line(scene, data):
    truth, found = scene
    broken = data.draw(damaged(found))
    metrics = answer(lambda: evaluate_detections(truth, broken))
    if metrics is not None:
        check_metrics(metrics)


@given(scene=scenes(), data=st.data(), in_file=st.booleans())
def test_a_damaged_ground_truth_is_used_or_refused_in_one_line(path, scene, data, in_file):
    truth, found = scene
    broken = data.draw(damaged(truth))
    path.write_text(json.dumps(broken))
    named = [str(path)] if in_file and not isinstance(broken, dict) else []
    metrics = answer(lambda: evaluate_detections(path if in_file else broken, found), *named)
    if metrics is not None:
        check_metrics(metrics)


READERS = [results.read_detections, results.read_metrics, results.evaluated_step]


@given(scene=scenes(), data=st.data())
def test_a_file_that_is_no_json_is_refused_in_one_line(path, scene, data):
    path.write_bytes(data.draw(spoiled_texts(scene[1]) | st.binary(max_size=40)))
    for reader in READERS:
        answer(lambda reader=reader: reader(path), str(path))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("text", TOO_MUCH.values(), ids=TOO_MUCH)
def test_json_beyond_the_parser_is_refused_in_one_line(path, reader, text):
    path.write_bytes(text)
    assert answer(lambda: reader(path), str(path)) is None


@st.composite
def metrics_of_any_kind(draw):
    number = shares | st.just(float("nan"))
    summary = {name: draw(number) for name in SUMMARY_NAMES}
    per_class = draw(st.dictionaries(st.text(max_size=5), number, max_size=4))
    count = st.integers(0, 10**6)
    return CocoMetrics(summary, per_class, draw(count), draw(count))


@given(metrics=metrics_of_any_kind(), step=st.none() | st.integers(0, 10**9))
def test_metrics_are_written_and_read_back(path, metrics, step):
    facts = {} if step is None else {"step": step}
    results.write_metrics(path, metrics, **facts)
    np.testing.assert_equal(vars(results.read_metrics(path)), vars(metrics))  # NaN equals NaN
    assert results.evaluated_step(path) == step


@given(metrics=metrics_of_any_kind(), data=st.data())
def test_a_damaged_file_of_metrics_is_refused_in_one_line_or_usable(path, metrics, data):
    path.write_text(json.dumps(data.draw(damaged(metrics.to_json()))))
    read = answer(lambda: results.read_metrics(path), str(path))
    if read is not None:
        assert set(read.summary) == set(SUMMARY_NAMES)
        assert str(read)
        check_metrics(read)


@given(scene=scenes())
def test_the_ground_truth_as_detections_is_perfect(scene):
    # Without crowds; 100 detections of a class and an image count, so that all of these do.
    truth, _ = scene
    for one in truth["annotations"]:
        one["iscrowd"] = 0
    found = [
        {key: one[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.5}
        for one in truth["annotations"]
    ]
    metrics = evaluate_detections(truth, found)
    check_metrics(metrics)
    np.testing.assert_allclose(metrics.summary["AP"], 1)
    np.testing.assert_allclose(metrics.summary["AR100"], 1)
    assert metrics.num_detections == len(found)
