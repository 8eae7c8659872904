import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bifpn_jax.command_line.flag_names import flags_of_names, in_flags
from bifpn_jax.command_line.trained_model import run_config
from bifpn_jax.commands.evaluate import FLAG_NAMES, open_data
from bifpn_jax.data.sources.relabelling import Relabelled
from bifpn_jax.errors import UserError
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
