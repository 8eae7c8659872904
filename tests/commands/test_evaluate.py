import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from in_process import assert_refused, run_command

from bifpn_jax import named_parts
from bifpn_jax.command_line.flag_names import flags_of_names, in_flags
from bifpn_jax.command_line.trained_model import run_config
from bifpn_jax.commands.evaluate import FLAG_NAMES, open_data
from bifpn_jax.data.sources.relabelling import Relabelled
from bifpn_jax.errors import UserError
from bifpn_jax.named_parts import trust_code
from bifpn_jax.trained import evaluate_detector, load_detector

ROOT = Path(__file__).resolve().parents[2]


def environment(home):
    variables = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    return {**variables, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "HOME": str(home)}


@pytest.fixture(scope="module")
def detector(trained):
    return load_detector(trained, step="latest")


@pytest.fixture(scope="module")
def config(detector):
    return run_config(detector)


def test_files_give_the_numbers_of_the_run_itself(detector, config, trained, coco_shapes):
    _, files = coco_shapes()
    source = open_data(config, 4, str(files.images), str(files.annotations))
    result = evaluate_detector(detector, source, batch_size=3)  # rounded up to the 8 devices
    expected = json.loads((trained / "metrics.json").read_text())
    del expected["evaluated_with"]
    assert result.metrics.to_json() | {"step": 24} == expected
    assert result.detections == json.loads((trained / "detections.json").read_text())
    assert result.images_per_second > 0


def test_by_default_the_data_of_the_run(detector, config):
    source = open_data(config, 4)
    assert len(source) == 11
    assert Relabelled(source, detector.label_map).label_map == detector.label_map


def test_categories_are_matched_by_name_and_results_are_in_the_ids_of_the_file(
    detector, config, trained, coco_shapes
):
    ids = (7, 2, 1, 30)  # for 1, 2, 3, 4
    _, files = coco_shapes(ids)
    source = open_data(config, 4, str(files.images), str(files.annotations))
    result = evaluate_detector(detector, source)
    expected = json.loads((trained / "metrics.json").read_text())
    del expected["evaluated_with"]
    assert result.metrics.to_json() | {"step": 24} == expected
    found = json.loads((trained / "detections.json").read_text())
    assert result.detections == [
        {**entry, "category_id": ids[entry["category_id"] - 1]} for entry in found
    ]


def test_categories_must_fit(detector, config, coco_shapes):
    _, files = coco_shapes()
    content = json.loads(files.annotations.read_text())
    content["categories"][3]["name"] = "disc"
    files.annotations.write_text(json.dumps(content))
    source = open_data(config, 4, str(files.images), str(files.annotations))
    name = detector.class_names[3]
    with pytest.raises(UserError, match=f"'disc' .id 4, which the model calls '{name}'."):
        evaluate_detector(detector, source)


def test_messages_name_the_flags_of_this_command(config, coco_shapes, tmp_path):
    def said(*paths):
        """What the command says about the data."""
        with pytest.raises(UserError) as refused:
            open_data(config, 4, *paths)
        return in_flags(str(refused.value), flags_of_names(FLAG_NAMES))

    _, files = coco_shapes()
    images, annotations = str(files.images), str(files.annotations)
    assert "--annotations=FILE is missing" in said(images)
    assert "--images=DIR is missing" in said("", annotations)
    absent = said(images, str(tmp_path / "absent.json"))
    assert re.search(r"no such annotation file; .* \(--annotations=FILE\)", absent)
    absent = said(str(tmp_path / "absent"), annotations)
    assert re.search(r"no such folder of images; .* \(--images=DIR\)", absent)

    content = json.loads(files.annotations.read_text())
    content["annotations"][0]["bbox"] = [1, 1, 0, 5]
    files.annotations.write_text(json.dumps(content))
    assert "or set --bad_boxes=skip" in said(images, annotations)
    assert len(open_data(config, 4, images, annotations, bad_boxes="skip")) == 11


def test_the_command(trained, coco_shapes, tmp_path):
    _, files = coco_shapes()
    words = [
        "--model=d0",
        f"--weights={trained}",
        f"--images={files.images}",
        f"--annotations={files.annotations}",
        f"--output={tmp_path / 'out'}",
        "--nms=hard",
        "--step=24",
        "--noema",
        "--image_hw=64,96",
        "--batch_size=4",
        "--max_detections=1",
    ]
    result = subprocess.run(
        [sys.executable, "-m", "bifpn_jax", "eval", *words],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == f"weights: {trained} (step 24, latest checkpoint, raw weights)"
    assert lines[1].startswith(f"data: {files.annotations}: 11 images (")
    assert lines[2].split(" (")[0].endswith("have more than --max_detections=1 objects")
    assert any(line.startswith("AP50 ") and line.endswith("at IoU 0.50") for line in lines)
    assert any("circle" in line and "cross" in line for line in lines)
    assert "images/s; metrics.json and detections.json are in" in lines[-1]
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["num_images"] == 11
    assert metrics["max_detections"] == 1
    assert (metrics["weights"], metrics["checkpoint"], metrics["ema"]) == (
        str(trained),
        "24",
        False,
    )
    assert (metrics["step"], metrics["data"]) == (24, str(files.annotations))
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) > 0
    assert list((tmp_path / ".cache" / "bifpn_jax").iterdir())  # faster the next time


OWN_METRIC = """
def counted(ground_truth, detections, *, score=0.3):
    return {"images": len(ground_truth["images"]), "found": len(detections)}
"""


@pytest.fixture
def own_metric(tmp_path, monkeypatch):
    """The place of a metric's code, which nobody trusts yet."""
    monkeypatch.setattr(named_parts, "_trusted", set())
    (tmp_path / "my_metric.py").write_text(OWN_METRIC)
    return f"{tmp_path / 'my_metric.py'}:counted"


def test_metrics_of_ones_own(detector, config, own_metric):
    source = open_data(config, 4)
    for metrics in ([lambda truth, found: {"found": len(found)}], [own_metric]):
        if metrics == [own_metric]:
            with pytest.raises(UserError, match="which is not run without consent"):
                evaluate_detector(detector, source, metrics=metrics)
            trust_code(own_metric)
        result = evaluate_detector(detector, source, metrics=metrics)
        assert result.own["found"] == len(result.detections)


def test_the_command_takes_metrics_of_ones_own_and_of_the_run(trained, own_metric, tmp_path):
    workdir, output = tmp_path / "run", tmp_path / "out"
    shutil.copytree(trained, workdir)
    config = json.loads((workdir / "config.json").read_text())
    config["eval"]["metrics"] = [own_metric]
    (workdir / "config.json").write_text(json.dumps(config))

    def measured(*words):
        ended = run_command("eval", *words, f"--output={output}")
        assert (ended.status, ended.err) == (0, "")
        metrics = json.loads((output / "metrics.json").read_text())
        (output / "metrics.json").unlink()
        return ended.out, metrics

    said, metrics = measured(f"--weights={workdir}")
    assert f"not measured: metric {own_metric}, code in a file" in said
    assert not {"images", "found"} & set(metrics)
    said, with_trust = measured(f"--weights={workdir}", "--trust_code")
    assert "not measured" not in said
    assert with_trust == {**metrics, "images": 11.0, "found": metrics["num_detections"]}
    said, named = measured(f"--weights={trained}", f"--metrics={own_metric}")
    assert named == {**with_trust, "weights": str(trained)}
    assert re.search(r"your own metrics\nimages +11\nfound", said)


def test_a_metric_that_cannot_be_used_is_refused_before_weights_are_read(own_metric):
    ended = run_command("eval", "--weights=absent", f"--metrics={own_metric}ed")
    assert_refused(ended, "there is no counteded in .*; did you mean counted")
    ended = run_command("eval", "--weights=absent", "--metrics=AP75")
    assert_refused(ended, "--metrics='AP75': COCO's metrics are always there")
