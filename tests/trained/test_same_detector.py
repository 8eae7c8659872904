"""Python, `predict`, `evaluate` and an exported file are one detector, box by box."""

import dataclasses
import json

import pytest
from in_process import run_command

from bifpn_jax.data.records import load_image
from bifpn_jax.data.sources.coco_folder import CocoJson
from bifpn_jax.evaluation.coco_eval import evaluate_detections
from bifpn_jax.evaluation.results import coco_results
from bifpn_jax.exporting import save_detector
from bifpn_jax.postprocessing import Detections
from bifpn_jax.trained import evaluate_detector, load_detector


def found_in_python(detector, source):
    """COCO results of calling a detector with every image of a source."""
    results = []
    for record in (source[i] for i in range(len(source))):
        boxes, scores, labels, _ = detector(load_image(record))
        results += coco_results(
            record.image_id, Detections(boxes, scores, labels), detector.label_map
        )
    return results


def found_by_predict(weights, source, folder, output, min_score):
    """COCO results of the command, with the source's image ids."""
    words = (f"--weights={weights}", f"--output={output}", f"--min_score={min_score}")
    ended = run_command("predict", *words, folder)
    assert ended.status == 0, ended.err
    id_of = {
        str(folder / entry["file_name"]): entry["id"] for entry in source.ground_truth()["images"]
    }
    return [
        {key: entry[key] for key in ("category_id", "bbox", "score")}
        | {"image_id": id_of[entry["file_name"]]}
        for entry in json.loads((output / "detections.json").read_text())
    ]


def found_by_evaluate(weights, folder, annotations, output):
    """COCO results and AP of the command."""
    ended = run_command(
        "eval",
        f"--weights={weights}",
        f"--images={folder}",
        f"--annotations={annotations}",
        f"--output={output}",
    )
    assert ended.status == 0, ended.err
    metrics = json.loads((output / "metrics.json").read_text())
    return json.loads((output / "detections.json").read_text()), metrics


def likely(results, min_score):
    """Those that a prediction lists, in one order."""
    kept = [entry for entry in results if entry["score"] >= min_score]
    return sorted(kept, key=lambda e: (e["image_id"], -e["score"], e["category_id"], e["bbox"]))


def check_all_the_same(weights, folder, annotations, tmp_path, min_score):
    """Compares them; returns AP."""
    source = CocoJson(folder, annotations, bad_boxes="clip")
    detector = load_detector(weights)
    exported = tmp_path / "exported.safetensors"
    save_detector(exported, detector)
    evaluation = evaluate_detector(detector, source)
    commanded, metrics = found_by_evaluate(weights, folder, annotations, tmp_path / "evaluate")
    assert commanded == evaluation.detections
    assert metrics["AP"] == evaluation.metrics.summary["AP"]
    again, of_file = found_by_evaluate(exported, folder, annotations, tmp_path / "exported")
    assert again == commanded
    assert of_file["AP"] == metrics["AP"]

    everything = found_in_python(dataclasses.replace(detector, score_threshold=None), source)
    called = likely(everything, min_score)
    assert called
    predicted = found_by_predict(weights, source, folder, tmp_path / "predict", min_score)
    assert likely(predicted, min_score) == called
    # An evaluation computes many images at once, whose last bits can differ.
    for one, many in zip(called, likely(commanded, min_score), strict=True):
        assert one["image_id"] == many["image_id"]
        assert one["score"] == pytest.approx(many["score"], abs=2e-5)
    ap = evaluate_detections(source.ground_truth(), everything)
    assert ap.summary["AP"] == pytest.approx(metrics["AP"], abs=1e-4)
    return metrics["AP"]


def test_a_workdir_and_its_exported_file(trained, coco_shapes, tmp_path):
    _, files = coco_shapes()
    check_all_the_same(trained, files.images, files.annotations, tmp_path, 0.01)


@pytest.mark.slow
def test_published_lite0_on_photographs(shared, tmp_path):
    pytest.importorskip("tflite", reason="reading .tflite needs the package tflite")
    weights = shared / "weights" / "efficientdet_lite0_coco_int8.tflite"
    data = shared / "data" / "coco90"
    (annotations,) = (data / "annotations").glob("*.json")
    ap = check_all_the_same(weights, data / "images", annotations, tmp_path, 0.05)
    assert 0.36 < ap < 0.38
