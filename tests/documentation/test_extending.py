"""docs/extending.md: a run with all of its parts outside of the checkout, and each by itself."""

import csv
import json
import re
import shlex

import cv2
import numpy as np
import pytest
from absl import flags
from flax import traverse_util
from in_process import run_command
from pages import blocks, page_commands, read_page

from bifpn_jax.command_line import command
from bifpn_jax.data.sources.shape_drawing import CLASSES, draw_image
from bifpn_jax.recipe.checks import check_config
from bifpn_jax.trained import load_detector

PAGE = "docs/extending.md"
COMMANDS = page_commands(PAGE, read_page(PAGE))
TRAINING = [printed for printed in COMMANDS if printed.text.startswith("bifpn train ")]
EXPORT = COMMANDS[-1]  # of what the last training leaves


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page's files, and the drawn pictures that its data format reads."""
    folder = tmp_path_factory.mktemp("extending")
    for block in blocks(PAGE, read_page(PAGE)):
        if block.file_name:
            (folder / block.file_name).write_text(block.text)
    for part, count in (("train", 16), ("val", 8)):
        (folder / "photos" / part).mkdir(parents=True)
        with (folder / "photos" / f"{part}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "x0", "y0", "x1", "y1", "class"])
            for i in range(count):
                rng = np.random.default_rng([i, count])
                image, boxes, labels, _ = draw_image(rng)
                cv2.imwrite(str(folder / "photos" / part / f"{i}.png"), image[..., ::-1])
                for (y0, x0, y1, x1), label in zip(boxes.tolist(), labels, strict=True):
                    writer.writerow([f"{i}.png", x0, y0, x1, y1, CLASSES[label]])
    return folder


def train(folder, words):
    assert words[:2] == ["bifpn", "train"]
    return run_command("train", *words[2:], "--process_count=1", folder=folder)


def export(folder, words):
    assert words[:2] == ["bifpn", "export"]
    return run_command("export", *words[2:], folder=folder)


@pytest.mark.parametrize("printed", TRAINING[:-1], ids=lambda printed: printed.text.split()[-1])
def test_each_part_is_taken_by_itself(printed, folder, monkeypatch):
    checked = []

    def check(main, rest, *_):
        check_config(flags.FLAGS.config)
        checked.append(rest)

    monkeypatch.setattr(command, "_call", check)
    ended = train(folder, shlex.split(printed.text))
    assert ended.status == 0, ended.err
    assert checked == [[]]


def test_all_of_them_train_together(folder, monkeypatch):
    ended = train(folder, shlex.split(TRAINING[-1].text))
    assert ended.status == 0, ended.err
    workdir = folder / "runs" / "mine"
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert metrics["count_error"] >= 0
    assert {"AP", "AP50"} <= set(metrics)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert any("eval/count_error" in line for line in lines)
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert np.isfinite(losses).all()
    rates = [line["train/learning_rate"] for line in lines if "train/learning_rate" in line]
    assert 0 < rates[-1] < rates[1]
    monkeypatch.chdir(folder)
    detector = load_detector(workdir, trust_code=True)
    assert detector.class_names == CLASSES
    params = detector.variables["params"]
    assert "layer1_0" in params["backbone"]
    assert "norm" in params["backbone"]["bn1"]
    assert not detector.variables.get("batch_stats")
    fusions = [name for name in params["feature_network"]["cell_0"] if name.endswith("_fusion")]
    assert len(fusions) == 8

    ended = export(folder, shlex.split(EXPORT.text))
    assert ended == (0, "mine.npz\n", "")
    exported = dict(np.load(folder / "mine.npz"))
    kept = traverse_util.flatten_dict(detector.variables, sep="/")
    assert exported.keys() == kept.keys()
    for name, values in kept.items():
        np.testing.assert_array_equal(exported[name], values)
    facts = json.loads((folder / "mine.json").read_text())
    assert facts["class_names"] == list(CLASSES)
    assert facts["image_hw"] == [64, 64]


def test_every_command_is_tried():
    exports = [printed.text for printed in COMMANDS if printed not in TRAINING]
    with_one = " --format=my_export.py:npz --output=mine.npz"
    assert exports == [
        f"bifpn export --weights=runs/my_metric{with_one}",
        f"bifpn export --weights=runs/mine --trust_code{with_one}",
    ]


def test_the_table_names_a_field_of_each_part():
    fields = set(re.findall(r"^\| [\w ]+ \| `([\w.]+)` \|", read_page(PAGE), re.MULTILINE))
    used = set(re.findall(r"--config\.([\w.]+)=\S*\.py:", read_page(PAGE)))
    assert used == fields - {"model.activation"}
