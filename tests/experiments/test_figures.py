"""Figures from the small logs in study_logs/: what they show, and the files they are written to."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bifpn_jax.errors import UserError
from experiments.figures import write_figures
from experiments.results import counts, published
from experiments.results.cost_figure import figure1
from experiments.results.plotting import name_cost_axes, new_figure
from experiments.results.runs import Results, read_results
from experiments.results.scaling_figure import figure6
from experiments.results.weights_figure import figure5, read_history

ROOT = Path(__file__).resolve().parents[2]
LOGS = Path(__file__).resolve().parent / "study_logs"
NOTHING = Results({}, {})


@pytest.fixture(scope="module")
def results():
    return read_results([LOGS / "fusion", LOGS / "scaling"])


@pytest.fixture(autouse=True)
def quick_counts(monkeypatch):
    """Counts that need no tracing."""

    def count(model):
        return counts.Counts(1000 * model.width, 100.0 * model.width * model.image_hw[0] ** 2)

    monkeypatch.setattr(counts, "count_model", count)


def legend(axes):
    return axes.get_legend_handles_labels()[1]


def test_figure_1_without_runs():
    drawing = figure1(NOTHING)
    (axes,) = drawing.figure.axes
    assert legend(axes) == ["EfficientDet, paper", "other detectors, paper"]
    costs, aps = axes.lines[0].get_data(orig=False)
    assert (list(costs)[-1], list(aps)[-1]) == (410, 0.544)
    names = {text.get_text() for text in axes.texts}
    assert {"D0", "D7x", "YOLOv3", "Mask R-CNN X101-FPN, val"} <= names
    assert len(axes.texts) == len(published.EFFICIENTDET) + len(published.OTHERS)
    assert "Ours on COCO: not run." in drawing.caption


def test_figure_1_keeps_other_data_apart(results):
    drawing = figure1(results)
    coco, other = drawing.figure.axes
    assert len(legend(coco)) == 2
    assert legend(other) == ["ours, fusion", "ours, scaling"]
    assert other.get_title() == "shapes, not comparable with COCO"
    assert other.get_xlabel() == "multiply-adds, millions"
    _, aps = other.containers[0].lines[0].get_data(orig=False)
    np.testing.assert_allclose(aps, [0.25, 0.32, 0.41])
    assert "cannot be compared with the paper's" in drawing.caption


def test_figure_1_shows_our_runs_on_coco(tmp_path):
    folder = Path(shutil.copytree(LOGS / "fusion" / "fast" / "seed_0", tmp_path / "run"))
    config = json.loads((folder / "config.json").read_text())
    config["data"]["source"] = "coco2017"
    (folder / "config.json").write_text(json.dumps(config))
    drawing = figure1(read_results([folder]))
    (axes,) = drawing.figure.axes
    assert legend(axes)[-1] == "ours, D0"
    assert drawing.caption.endswith("Ours on COCO: ours, D0.")


def test_figure_5(results):
    drawing = figure5(results)
    titles = [axes.get_title() for axes in drawing.figure.axes]
    assert titles == ["cell_0/node_0", "cell_0/node_2", "cell_0/node_3"]
    first, middle, _ = drawing.figure.axes
    labels = ["input 1, softmax", "input 2, softmax", "input 1, fast", "input 2, fast"]
    assert legend(first) == labels
    assert [line.get_linestyle() for line in first.lines] == ["-", "-", "--", "--"]
    assert len(middle.lines) == 6
    steps, weights = first.lines[2].get_data()
    assert list(steps) == [10, 20, 30, 40]
    # At the last step the seeds of fast fusion have 0.60, 0.61 and 0.62.
    assert weights[-1] == pytest.approx(0.61)
    (shown,) = drawing.figure.legends
    assert [text.get_text() for text in shown.get_texts()][:2] == [labels[0], labels[2]]
    assert "softmax: 3; fast: 3" in drawing.caption
    assert "not run" not in drawing.caption


def test_figure_5_of_chosen_nodes(results):
    drawing = figure5(results, ["cell_0/node_1"])
    assert [axes.get_title() for axes in drawing.figure.axes] == ["cell_0/node_1"]
    with pytest.raises(UserError, match="--nodes=cell_0/node_7: there is no such node; did you"):
        figure5(results, ["cell_0/node_7"])


def test_figure_5_of_a_single_run():
    drawing = figure5(read_results([LOGS / "fusion" / "fast" / "seed_0"]))
    assert drawing.caption.endswith("softmax: not run.")
    assert legend(drawing.figure.axes[0]) == ["input 1, fast", "input 2, fast"]


def test_figure_5_of_a_run_that_was_trained(trained):
    drawing = figure5(read_results([trained]))
    history = read_history(trained)
    assert history.steps[-1] == 24
    assert history.nodes["cell_0/node_0"].shape == (len(history.steps), 2)
    assert len(drawing.figure.axes) == 3


def test_a_resumed_log_of_weights():
    history = read_history(LOGS / "fusion" / "softmax" / "seed_1")  # step 30 is there twice
    assert list(history.steps) == [10, 20, 30, 40]
    assert history.nodes["cell_0/node_2"].shape == (4, 3)


@pytest.mark.parametrize("line", ['{"step": 50, "weights": {}}', '{"step": 50}'])
def test_a_damaged_log_of_weights(tmp_path, line):
    shutil.copy(LOGS / "fusion" / "fast" / "seed_0" / "fusion_weights.jsonl", tmp_path)
    with (tmp_path / "fusion_weights.jsonl").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(UserError, match="does not hold the same nodes in every line"):
        read_history(tmp_path)


def test_figure_6(results):
    drawing = figure6(results)
    (axes,) = drawing.figure.axes
    assert legend(axes) == ["compound scaling", "image size", "channels"]
    curves = [container.lines[0].get_data(orig=False) for container in axes.containers]
    np.testing.assert_allclose(curves[0][1], [0.21, 0.35])  # from the base
    np.testing.assert_allclose(curves[1][1], [0.21, 0.305])  # the second step was not run
    np.testing.assert_allclose(curves[2][1], [0.21, 0.23, 0.23])
    base = 1600 * 64**2 / 1e9
    np.testing.assert_allclose(curves[0][0], [base, 2400 * 96**2 / 1e9])
    np.testing.assert_allclose(curves[2][0], [base, 1.5 * base, 2 * base])
    assert "2 of 12 runs are in no average: image_size_2/seed_0 not started" in drawing.caption


def test_figures_that_cannot_be_drawn_say_so():
    for drawing in (figure5(NOTHING), figure6(NOTHING)):
        assert drawing.figure is None
        assert drawing.caption.startswith("Not run")
        assert "python -m experiments.sweep" in drawing.caption


def test_small_numbers_of_operations_are_in_millions():
    _, (axes,) = new_figure(1, width=3, height=3)
    name_cost_axes(axes, [0.002, 0.5])
    assert axes.get_xlabel() == "multiply-adds, millions"
    assert axes.xaxis.get_major_formatter()(0.002, 0) == "2"
    name_cost_axes(axes, [0.5, 3.0])
    assert axes.get_xlabel() == "multiply-adds, billions"


def test_the_files_of_figures(results, tmp_path):
    (tmp_path / "table6.md").write_text("# Table 6\n")
    written = write_figures(results, tmp_path, ["5", "6"])
    assert written == [
        *(f"figure5.{end}" for end in ("png", "svg", "md")),
        *(f"figure6.{end}" for end in ("png", "svg", "md")),
        "results.md",
    ]
    assert (tmp_path / "figure5.png").read_bytes().startswith(b"\x89PNG")
    picture = (tmp_path / "figure6.svg").read_bytes()
    assert b"<svg" in picture
    write_figures(results, tmp_path, ["6"])
    assert (tmp_path / "figure6.svg").read_bytes() == picture
    page = (tmp_path / "results.md").read_text()
    headings = [line for line in page.splitlines() if line.startswith("#")]
    assert [heading[:11] for heading in headings] == [
        "# Results",
        "## Table 6",
        "## Figure 5",
        "## Figure 6",
    ]
    assert "![Figure 5: fusion weights during training](figure5.png)" in page


def test_the_command_of_figures(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "experiments.figures", "--figures=5,6", f"--output={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"figure5.md, figure6.md, results.md are in {tmp_path}\n"
