import copy
import json
import math
import re

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bifpn_jax.errors import UserError
from bifpn_jax.evaluation.coco_eval import evaluate_detections
from bifpn_jax.evaluation.metrics import SUMMARY_NAMES, CocoMetrics

SMALL, MEDIUM, LARGE = [10, 10, 20, 20], [100, 40, 50, 60], [50, 50, 200, 150]


def scene(*objects, images=(1, 2), categories=((1, "cat"), (7, "dog"))):
    """A COCO dict with as little in it as is allowed; objects are (image, category, bbox)."""
    return {
        "images": [{"id": image} for image in images],
        "categories": [{"id": category, "name": name} for category, name in categories],
        "annotations": [
            {"image_id": image, "category_id": category, "bbox": box}
            for image, category, box in objects
        ],
    }


def detection(image_id, category_id, bbox, score=0.9):
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}


def found(truth):
    """Detections that are exactly the objects of the scene."""
    return [detection(a["image_id"], a["category_id"], a["bbox"]) for a in truth["annotations"]]


@pytest.fixture(scope="module")
def reference(shared):
    folder = shared / "data" / "coco_eval_reference"
    lines = (folder / "val2014_fake_eval_res.txt").read_text().split("type=bbox")[1]
    printed = re.findall(r"maxDets=[ \d]+\] = (\S+)", lines)[:12]
    detections = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text())
    return folder / "instances_val2014_100.json", detections, printed


def test_official_numbers(reference):
    path, detections, printed = reference
    metrics = evaluate_detections(path, detections)
    assert [f"{metrics.summary[name]:.3f}" for name in SUMMARY_NAMES] == printed
    assert metrics.num_images == 100
    assert metrics.num_detections == len(detections)
    defined = [ap for ap in metrics.per_class.values() if not math.isnan(ap)]
    assert len(metrics.per_class) == 80
    assert sum(defined) / len(defined) == pytest.approx(metrics.summary["AP"], abs=1e-12)


def test_restricting_to_images_equals_a_smaller_file(reference):
    path, detections, _ = reference
    truth = json.loads(path.read_text())
    chosen = {image["id"] for image in truth["images"][:40]}
    smaller = {
        "images": [image for image in truth["images"] if image["id"] in chosen],
        "annotations": [a for a in truth["annotations"] if a["image_id"] in chosen],
        "categories": truth["categories"],
    }
    kept = [d for d in detections if d["image_id"] in chosen]
    restricted = evaluate_detections(truth, detections, image_ids=chosen)
    assert restricted.to_json() == evaluate_detections(smaller, kept).to_json()
    assert restricted.num_images == 40


def test_is_quiet_and_leaves_its_arguments_alone(capsys):
    truth = scene((1, 1, SMALL), (2, 7, LARGE))
    detections = found(truth)
    before = copy.deepcopy((truth, detections))
    evaluate_detections(truth, detections)
    assert (truth, detections) == before
    assert capsys.readouterr() == ("", "")


def test_perfect_detections():
    truth = scene((1, 1, SMALL), (1, 1, MEDIUM), (2, 1, LARGE), (2, 7, MEDIUM))
    metrics = evaluate_detections(truth, found(truth))
    at_most_one = {"AR1": (2 / 3 + 1) / 2}  # of three cats on two images one is beyond reach
    for name, value in metrics.summary.items():
        assert value == pytest.approx(at_most_one.get(name, 1.0), abs=1e-9), name
    assert metrics.per_class == {"cat": pytest.approx(1.0), "dog": pytest.approx(1.0)}


def test_object_with_id_zero_can_be_found():
    truth = scene((1, 1, LARGE))
    truth["annotations"][0]["id"] = 0
    assert evaluate_detections(truth, found(truth)).summary["AP"] == pytest.approx(1.0)


def test_no_detections():
    metrics = evaluate_detections(scene((1, 1, LARGE), (2, 7, MEDIUM)), [])
    undefined = {"APs", "ARs"}  # nothing small in the scene
    for name, value in metrics.summary.items():
        assert math.isnan(value) if name in undefined else value == 0.0, name
    assert metrics.per_class == {"cat": 0.0, "dog": 0.0}
    assert metrics.num_detections == 0


def test_nothing_to_find():
    metrics = evaluate_detections(scene(), [detection(1, 1, LARGE)])
    assert all(math.isnan(value) for value in metrics.summary.values())
    assert metrics.num_images == 2


def test_class_without_ground_truth_does_not_count():
    truth = scene((1, 1, LARGE))
    metrics = evaluate_detections(truth, [*found(truth), detection(1, 7, MEDIUM)])
    assert metrics.summary["AP"] == pytest.approx(1.0)
    assert metrics.per_class["cat"] == pytest.approx(1.0)
    assert math.isnan(metrics.per_class["dog"])


def test_half_found():
    # Recall ends at 1/2 with precision 1: 51 of the 101 recall points hold precision 1.
    truth = scene((1, 1, LARGE), (2, 1, LARGE))
    metrics = evaluate_detections(truth, found(truth)[:1])
    assert metrics.summary["AP"] == pytest.approx(51 / 101)
    assert metrics.summary["AR100"] == pytest.approx(0.5)


def test_false_alarm_above_the_hit_halves_precision():
    truth = scene((1, 1, LARGE))
    hit, alarm = detection(1, 1, LARGE, 0.5), detection(1, 1, [0, 0, 30, 30], 0.8)
    assert evaluate_detections(truth, [hit, alarm]).summary["AP"] == pytest.approx(0.5)
    alarm["score"] = 0.2
    assert evaluate_detections(truth, [hit, alarm]).summary["AP"] == pytest.approx(1.0)


def test_overlap_decides_the_threshold():
    # IoU 0.8 counts at 0.50, 0.55, ... 0.75 and, inclusively, at 0.80: 7 of 10 thresholds.
    truth = scene((1, 1, [0, 0, 100, 100]))
    metrics = evaluate_detections(truth, [detection(1, 1, [0, 0, 100, 80])])
    assert metrics.summary["AP"] == pytest.approx(0.7)
    assert metrics.summary["AP50"] == metrics.summary["AP75"] == pytest.approx(1.0)


@pytest.mark.parametrize("crowd", [0, 1])
def test_detections_in_a_crowd_are_ignored(crowd):
    truth = scene((1, 1, [0, 0, 50, 50]), (1, 1, [100, 100, 200, 200]))
    truth["annotations"][1]["iscrowd"] = crowd
    in_crowd = [detection(1, 1, [100 + 40 * i, 110, 30, 30], 0.99) for i in range(4)]
    metrics = evaluate_detections(truth, [detection(1, 1, [0, 0, 50, 50], 0.5), *in_crowd])
    # Not a crowd: four false alarms before the only hit, precision 1/5 up to recall 1/2.
    expected = 1.0 if crowd else 51 / 101 / 5
    assert metrics.summary["AP"] == pytest.approx(expected)


def test_annotated_area_decides_the_size_class():
    truth = scene((1, 1, LARGE))
    assert evaluate_detections(truth, found(truth)).summary["APl"] == pytest.approx(1.0)
    truth["annotations"][0]["area"] = 500.0
    metrics = evaluate_detections(truth, found(truth)).summary
    assert metrics["APs"] == pytest.approx(1.0)
    assert math.isnan(metrics["APl"])


def test_max_detections():
    truth = scene(*[(1, 1, [30 * i, 0, 20, 20]) for i in range(12)])
    metrics = evaluate_detections(truth, found(truth), max_detections=3)
    assert metrics.summary["AR1"] == pytest.approx(1 / 12)
    assert metrics.summary["AR10"] == metrics.summary["AR100"] == pytest.approx(3 / 12)
    metrics = evaluate_detections(truth, found(truth), max_detections=300)
    assert metrics.summary["AR10"] == pytest.approx(10 / 12)
    assert metrics.summary["AR100"] == pytest.approx(1.0)
    assert metrics.summary["AP"] == pytest.approx(1.0)


def crowded_scene(per_class=150):
    """One image with many objects of two classes, and as many detections, the last of them off."""
    boxes = [[25 * (i % 40), 25 * (i // 40), 20, 20] for i in range(2 * per_class)]
    truth = scene(*[(1, (1, 7)[i % 2], box) for i, box in enumerate(boxes)], images=(1,))
    rng = np.random.default_rng(0)
    scores = rng.permutation(len(boxes)) / len(boxes)
    detections = []
    for annotation, score in zip(truth["annotations"], scores, strict=True):
        x, y, *size = annotation["bbox"]
        moved = [x + rng.choice([0, 2, 30]), y, *size]
        detections.append(detection(1, annotation["category_id"], moved, float(score)))
    return truth, detections


@pytest.mark.parametrize("limit", [1, 5, 10, 50, 100, 150, 1000])
def test_any_limit_is_that_of_pycocotools(limit, capsys):
    truth, detections = crowded_scene()
    metrics = evaluate_detections(truth, detections, max_detections=limit)

    coco = COCO()
    coco.dataset = copy.deepcopy(truth)
    for number, annotation in enumerate(coco.dataset["annotations"], start=1):
        annotation |= {"id": number, "iscrowd": 0, "area": 400.0}
    coco.createIndex()
    reference = COCOeval(coco, coco.loadRes(copy.deepcopy(detections)), "bbox")
    reference.params.maxDets = [min(1, limit), min(10, limit), limit]
    reference.evaluate()
    reference.accumulate()
    # Its summary has AP at the last limit, and prints -1 for AP at a fixed 100.
    ap = reference.eval["precision"][:, :, :, 0, 2].mean()
    recalls = reference.eval["recall"][:, :, 0].mean(axis=(0, 1))
    capsys.readouterr()

    assert metrics.max_detections == limit
    assert metrics.summary["AP"] == pytest.approx(ap, abs=1e-12)
    names = ("AR1", "AR10", f"AR{limit}")
    assert [metrics.summary[name] for name in names] == pytest.approx(recalls.tolist(), abs=1e-12)
    at_hundred = evaluate_detections(truth, detections, max_detections=min(limit, 100))
    assert metrics.summary["AR100"] == at_hundred.summary["AR100"]
    assert list(metrics.summary)[:12] == list(SUMMARY_NAMES)
    assert set(metrics.summary) == {*SUMMARY_NAMES, f"AR{limit}"}


def test_perfect_detections_beyond_the_limit_of_coco():
    truth = scene(*[(1, 1, [25 * i, 0, 20, 20]) for i in range(150)], images=(1,))
    metrics = evaluate_detections(truth, found(truth))
    # Recall ends at 100 / 150: 67 of the 101 recall points hold precision 1.
    assert metrics.summary["AP"] == pytest.approx(67 / 101)
    metrics = evaluate_detections(truth, found(truth), max_detections=150)
    assert metrics.summary["AP"] == metrics.summary["AR150"] == pytest.approx(1.0)
    assert metrics.summary["AR100"] == pytest.approx(100 / 150)


def test_classes_of_one_name_stay_apart():
    truth = scene((1, 1, LARGE), categories=((1, "bat"), (7, "bat"), (9, "cat")))
    metrics = evaluate_detections(truth, found(truth))
    assert list(metrics.per_class) == ["bat (1)", "bat (7)", "cat"]


def test_categories_that_the_model_knows_and_the_file_does_not_are_left_out():
    truth = scene((1, 1, LARGE))
    metrics = evaluate_detections(truth, [detection(1, 12, LARGE), *found(truth)])
    assert metrics.summary["AP"] == pytest.approx(1.0)
    assert metrics.num_detections == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"detections": [detection(5, 1, LARGE)]}, "detection 1 is on image 5"),
        ({"detections": [detection(1, 3, LARGE)]}, "none of the detected categories, such as 3"),
        ({"detections": [{"image_id": 1, "score": 1.0}]}, "COCO's results format"),
        ({"detections": [detection(1, 1, [1, 2])]}, "COCO's results format"),
        ({"image_ids": [1, 9]}, "image 9 is to be evaluated"),
        ({"image_ids": []}, "no images to evaluate"),
        ({"max_detections": 0}, "at least 1"),
        ({"ground_truth": {"images": [], "annotations": []}}, "no list called 'categories'"),
        ({"ground_truth": scene((1, 1, None))}, "annotation 1 of the ground truth lacks"),
        ({"ground_truth": "missing.json"}, "missing.json"),
    ],
)
def test_bad_input_is_named_in_one_line(change, message):
    arguments = {"ground_truth": scene((1, 1, LARGE)), "detections": [detection(1, 1, LARGE)]}
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        evaluate_detections(**(arguments | change))
    assert "\n" not in str(caught.value)


def test_metrics_as_text_and_json():
    metrics = evaluate_detections(scene((1, 1, LARGE)), [])
    values = metrics.to_json()
    assert values["AP"] == 0.0
    assert values["APs"] is None
    assert values["per_class"] == {"cat": 0.0, "dog": None}
    again = CocoMetrics.from_json(json.loads(json.dumps(values, allow_nan=False)))
    assert again.to_json() == values
    assert str(metrics).startswith("AP 0.0000  AP50 0.0000  AP75 0.0000  APs   -     APm")
