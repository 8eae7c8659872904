"""Figures from the small logs in study_logs/: what they show, and the files they are written to."""

import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from bifpn_jax.errors import UserError
from experiments.figures import write_figures
from experiments.paper import counts, paper_numbers
from experiments.paper.cost_figure import figure1
from experiments.paper.finished_runs import Results, read_results
from experiments.paper.plotting import name_cost_axes, new_figure, plot_points, shortened
from experiments.paper.point_names import NamedPoint, name_points
from experiments.paper.scaling_figure import figure6
from experiments.paper.statistics import Measured
from experiments.paper.weights_figure import figure5, read_history

ROOT = Path(__file__).resolve().parents[3]
LOGS = Path(__file__).resolve().parents[1] / "study_logs"
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


def names_in(shown):
    return [text.get_text() for text in shown.get_texts()]


def test_figure_1_without_runs():
    drawing = figure1(NOTHING)
    (axes,) = drawing.figure.axes
    assert legend(axes) == ["EfficientDet, paper", "other detectors, paper"]
    costs, aps = axes.lines[0].get_data(orig=False)
    assert (list(costs)[-1], list(aps)[-1]) == (410, 0.544)
    names = {text.get_text() for text in axes.texts}
    assert {"D0", "D7x", "YOLOv3", "Mask R-CNN X101-FPN, val"} <= names
    assert len(axes.texts) == len(paper_numbers.EFFICIENTDET) + len(paper_numbers.OTHERS)
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
    assert titles == ["cell 0, P4 td", "cell 0, P4 out", "cell 0, P5 out"]
    first, middle, last = drawing.figure.axes
    edges = ["P4 in", "P5 in (top-down)"]
    labels = [f"{edge}, {fusion}" for fusion in ("softmax", "fast") for edge in edges]
    assert legend(first) == labels
    assert [line.get_linestyle() for line in first.lines] == ["-", "-", "--", "--"]
    assert len(middle.lines) == 6
    steps, weights = first.lines[2].get_data()
    assert list(steps) == [10, 20, 30, 40]
    # At the last step the seeds of fast fusion have 0.60, 0.61 and 0.62.
    assert weights[-1] == pytest.approx(0.61)
    (shown,) = drawing.figure.legends
    assert [text.get_text() for text in shown.get_texts()] == ["softmax", "fast"]
    assert names_in(first.get_legend()) == edges
    assert names_in(middle.get_legend()) == ["P4 in", "P4 td", "P3 out (bottom-up)"]
    assert names_in(last.get_legend()) == ["P5 in", "P4 out (bottom-up)"]
    colors = [line.get_color() for line in first.lines]
    assert [line.get_color() for line in first.get_legend().get_lines()] == colors[:2]
    assert colors[:2] == colors[2:]
    assert "cell 0, P4 out is `cell_0/node_2`" in drawing.caption
    assert "softmax: 3; fast: 3" in drawing.caption
    assert "not run" not in drawing.caption


def test_figure_5_shows_all_of_every_curve(tmp_path):
    folder = with_model(tmp_path / "a", "fast/seed_0", {})
    lines = []
    for step, share in ((10, 0.5), (20, 0.6), (30, 0.9)):
        flat, steep = [0.5, 0.5], [share, 1 - share]
        weights = [flat, flat, [0.3, 0.3, 0.4], steep]
        named = {f"cell_0/node_{n}": values for n, values in enumerate(weights)}
        lines.append(json.dumps({"step": step, "weights": named}))
    (folder / "fusion_weights.jsonl").write_text("\n".join(lines) + "\n")
    panels = figure5(read_results([folder])).figure.axes
    assert len({axes.get_ylim() for axes in panels}) == 1
    for axes in panels:
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        for line in axes.lines:
            steps, weights = line.get_data()
            assert left < min(steps) < max(steps) < right
            assert bottom < min(weights) <= max(weights) < top


def test_figure_5_of_chosen_nodes(results):
    drawing = figure5(results, ["cell_0/node_1"])
    assert [axes.get_title() for axes in drawing.figure.axes] == ["cell 0, P3 out"]
    with pytest.raises(UserError, match="--nodes=cell_0/node_7: there is no such node; did you"):
        figure5(results, ["cell_0/node_7"])


def test_figure_5_of_a_single_run():
    drawing = figure5(read_results([LOGS / "fusion" / "fast" / "seed_0"]))
    assert drawing.caption.endswith("softmax: not run.")
    assert legend(drawing.figure.axes[0]) == ["P4 in, fast", "P5 in (top-down), fast"]


def test_figure_5_of_a_run_that_was_trained(trained):
    drawing = figure5(read_results([trained]))
    history = read_history(trained)
    assert history.steps[-1] == 24
    assert history.nodes["cell_0/node_0"].shape == (len(history.steps), 2)
    assert len(drawing.figure.axes) == 3


def with_model(folder, run, changes):
    """A copy of a run whose config has another model."""
    shutil.copytree(LOGS / "fusion" / run, folder)
    config = json.loads((folder / "config.json").read_text())
    config["model"] |= changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_figure_5_does_not_mix_models(tmp_path):
    folders = [
        with_model(tmp_path / "a", "fast/seed_0", {}),
        with_model(tmp_path / "b", "softmax/seed_0", {"name": "d1", "max_level": 6}),
    ]
    drawing = figure5(read_results(folders))
    assert drawing.figure is None
    assert "several models (d0, d1)" in drawing.caption


@pytest.mark.parametrize("network", ["fpn", "3:0,1,2 4:1,2 5:2,0", "fully_connected"])
def test_figure_5_wants_the_weights_of_its_network(tmp_path, network):
    folder = with_model(tmp_path / "a", "fast/seed_0", {"feature_network": network})
    with pytest.raises(UserError, match=r"fusion_weights.jsonl: cell_0/node_\d has"):
        figure5(read_results([folder]))


@pytest.mark.parametrize(
    ("network", "counts_of_inputs", "titles"),
    [
        ("fully_connected", [3, 3, 3], ["cell 0, P3 out", "cell 0, P4 out", "cell 0, P5 out"]),
        ("4:0,1 3:0,3 5:2,3,1", [2, 2, 3], ["cell 0, P4 out", "cell 0, P3 out", "cell 0, P5 out"]),
    ],
)
def test_figure_5_of_other_networks(tmp_path, network, counts_of_inputs, titles):
    folder = with_model(tmp_path / "a", "fast/seed_0", {"feature_network": network})
    weights = {f"cell_0/node_{n}": [1 / e] * e for n, e in enumerate(counts_of_inputs)}
    line = json.dumps({"step": 10, "weights": weights})  # one step, equal values
    (folder / "fusion_weights.jsonl").write_text(line + "\n")
    drawing = figure5(read_results([folder]))
    assert [axes.get_title() for axes in drawing.figure.axes] == titles
    for axes, inputs in zip(drawing.figure.axes, counts_of_inputs, strict=True):
        assert len(set(names_in(axes.get_legend()))) == inputs
        assert {line.get_marker() for line in axes.lines} == {"x"}
    drawing.figure.draw_without_rendering()
    for axes in drawing.figure.axes:
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert 10 in ticks
        assert all(tick == round(tick) for tick in ticks)


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


def tick_labels(axis):
    """Labels of the ticks in sight, by their places."""
    low, high = sorted(axis.get_view_interval())
    labels = [tick.label1.get_text() for tick in axis.get_major_ticks()]
    return {p: t for p, t in zip(axis.get_majorticklocs(), labels, strict=True) if low <= p <= high}


COSTS = {
    "one": [0.015],
    "equal": [2.5] * 12,
    "nearly equal": [2.5, 2.5001],
    "tiny": [3e-6, 4e-6],
    "within a decade": [0.012, 0.018, 0.03],
    "just a decade": [11.0, 99.0],
    "two decades": [1.1, 150.0],
    "five decades": [0.004, 410.0],
    "large": [1200.0, 1900.0],
}


@pytest.mark.parametrize("costs", COSTS.values(), ids=COSTS)
def test_ticks_are_readable_for_any_range(costs):
    figure, (axes,) = new_figure(1, width=6.6, height=4.8)
    aps = [Measured((30.0,))] * len(costs)
    plot_points(axes, list(zip(costs, aps, strict=True)), fmt="o")
    name_cost_axes(axes, costs, aps)
    figure.draw_without_rendering()
    factor = {"multiply-adds, billions": 1, "multiply-adds, millions": 1e3}[axes.get_xlabel()]
    low, high = axes.get_xlim()
    assert low < min(costs)
    assert max(costs) < high
    for axis, scale in ((axes.xaxis, factor), (axes.yaxis, 1)):
        shown = tick_labels(axis)
        assert len(shown) >= 2
        assert len(set(shown.values())) == len(shown)
        for place, text in shown.items():
            assert float(text.replace(",", "").replace("−", "-")) == pytest.approx(place * scale)
        assert not any(tick.label1.get_text() for tick in axis.get_minor_ticks())
    extents = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
    for a, b in pairwise(sorted(extents, key=lambda extent: extent.x0)):
        assert a.x1 + 2 < b.x0


@pytest.mark.parametrize("ap", [0.0, 1.0])
def test_equal_ap_at_the_ends(ap):
    _, (axes,) = new_figure(1, width=6.6, height=4.8)
    name_cost_axes(axes, [1.0, 2.0], [Measured((ap,))] * 2)
    low, high = axes.get_ylim()
    assert high - low >= 0.01
    assert low < ap < high
    assert low > -0.005


def assert_names_are_clear(axes, names):
    """Every name is there once, inside the axes' width, and none covers another or a point."""
    axes.get_figure().draw_without_rendering()
    written = [text for text in axes.texts if text.get_text() and text.get_fontsize() == 7]
    assert sorted(text.get_text() for text in written) == sorted(names)
    boxes = [text.get_window_extent() for text in written]
    points = [axes.transData.transform(text.xy) for text in written]
    frame = axes.get_window_extent()
    for i, box in enumerate(boxes):
        assert frame.x0 - 2 < box.x0
        assert box.x1 < frame.x1 + 2
        for j, point in enumerate(points):
            assert not box.contains(*point), (names[i], names[j])
        for other in boxes[:i]:
            wide = min(box.x1, other.x1) - max(box.x0, other.x0)
            high = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert min(wide, high) < 1


PLACES = {
    "one": [(10, 30)],
    "equal": [(10, 30)] * 12,
    "equal costs": [(10, 30 + i / 4) for i in range(12)],
    "equal AP": [(10 + i / 9, 30) for i in range(12)],
    "a curve": [(10 * 1.3**i, 50 - 40 / (i + 1)) for i in range(12)],
    "corners": [(1, 0), (1, 60), (30, 0), (30, 60)],
    "two groups": [(10 + i % 2 * 10 + i / 50, 30 + i % 2 + i / 90) for i in range(24)],
}


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("long", [False, True], ids=["short", "long"])
def test_names_of_points_avoid_each_other(places, long):
    _, (axes,) = new_figure(1, width=6.6, height=4.8)
    ending = "_of_a_study_with_a_very_long_name_in_every_row" if long else ""
    points = [(float(cost), Measured((float(ap),))) for cost, ap in places]
    plot_points(axes, points, fmt="o", label="ours")
    name_cost_axes(axes, [cost for cost, _ in points], [ap for _, ap in points])
    names = [f"row_{i}{ending}_{i}" for i in range(len(places))]
    name_points(
        axes,
        [
            NamedPoint(name, cost, ap.mean, 0.0, "black")
            for name, (cost, ap) in zip(names, points, strict=True)
        ],
    )
    assert_names_are_clear(axes, [shortened(name, 30) for name in names])


def test_our_points_have_their_rows_names(results):
    _, other = figure1(results).figure.axes
    rows = [row for study in results.studies.values() for row in study.rows if study.ap(row)]
    assert_names_are_clear(other, rows)
    (axes,) = figure6(results).figure.axes
    study = results.studies["scaling"]
    assert_names_are_clear(axes, [row for row in study.rows if study.ap(row) is not None])


def test_small_models_on_coco_are_on_the_axis(tmp_path):
    folder = with_model(tmp_path / "a", "fast/seed_0", {})
    config = json.loads((folder / "config.json").read_text())
    config["data"]["source"] = "coco2017"
    (folder / "config.json").write_text(json.dumps(config))
    (axes,) = figure1(read_results([folder])).figure.axes
    ((cost,), (ap,)) = axes.containers[0].lines[0].get_data(orig=False)
    assert cost < 0.01
    assert axes.get_xlim()[0] < cost
    low, high = axes.get_ylim()
    assert low < ap < high
    assert "D0" in {text.get_text() for text in axes.texts if text.xy == (cost, ap)}


def test_series_on_different_data_say_so(tmp_path):
    folders = [with_model(tmp_path / name, "fast/seed_0", {"name": name}) for name in ("d0", "d1")]
    config = json.loads((folders[1] / "config.json").read_text())
    config["data"] |= {"source": "coco_json", "eval_annotations": "cells/val.json"}
    (folders[1] / "config.json").write_text(json.dumps(config))
    _, other = figure1(read_results(folders)).figure.axes
    assert names_in(other.get_legend()) == ["ours, D0, on shapes", "ours, D1, on val.json"]


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
