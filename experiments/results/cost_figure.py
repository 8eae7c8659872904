"""Figure 1: AP over multiply-adds, the paper's detectors and ours."""

from collections.abc import Mapping
from typing import Any

from experiments.results import counts, published
from experiments.results.figure import Drawing
from experiments.results.plotting import (
    COLORS,
    GREY,
    MARKERS,
    Points,
    name_cost_axes,
    new_figure,
    plot_points,
)
from experiments.results.runs import Results, Run, describe_data, is_coco, mean_ap
from experiments.results.study_table import row_counts

TITLE = "Figure 1: AP over multiply-adds"

# Where the names of the other detectors stand: horizontally, vertically in points from the marker.
_NAME_PLACES = {
    "Mask R-CNN R101-FPN": ("right", -3),
    "Mask R-CNN X101-FPN": ("right", -3),
    "ResNet-50 + NAS-FPN (1024)": ("left", -6),
    "ResNet-50 + NAS-FPN (1280)": ("left", -3),
    "AmoebaNet + NAS-FPN + AA (1280)": ("center", 7),
    "AmoebaNet + NAS-FPN + AA (1536)": ("center", 7),
}


def figure1(results: Results) -> Drawing:
    """The paper's points, ours on COCO among them, and ours on other data beside them."""
    on_coco, elsewhere = _our_points(results)
    figure, axes = new_figure(2 if elsewhere else 1, width=6.6, height=4.6)
    _draw_paper(axes[0])
    _draw_ours(axes[0], on_coco)
    axes[0].set_title("COCO")
    axes[0].legend(loc="lower right")
    caption = (
        "AP over multiply-adds of one image; COCO on a logarithmic axis. The paper's numbers are "
        "those of its Table 2: on val2017 for EfficientDet; for the others on test-dev where the "
        "paper has that, else on val2017 (marked val). "
    )
    if elsewhere:
        data = ", ".join(sorted({data for data, _ in elsewhere.values()}))
        _draw_ours(axes[1], {label: points for label, (_, points) in elsewhere.items()})
        axes[1].set_title(f"{data}, not comparable with COCO")
        axes[1].legend(loc="best")
        costs = [cost for _, points in elsewhere.values() for cost, _ in points]
        name_cost_axes(axes[1], costs)
        caption += (
            f"Right: ours on {data}, mean ± standard deviation over seeds, a point per row of a "
            "study; these AP cannot be compared with the paper's. "
        )
    caption += "Ours on COCO: " + (", ".join(on_coco) if on_coco else "not run") + "."
    return Drawing(TITLE, figure, caption)


def _our_points(results: Results) -> tuple[dict[str, Points], dict[str, tuple[str, Points]]]:
    """Our series on COCO, and those on other data with the name of the data."""
    on_coco, elsewhere = {}, {}

    def add(label: str, run: Run, points: Points) -> None:
        if is_coco(run.config):
            on_coco[label] = points
        else:
            elsewhere[label] = (describe_data(run.config), points)

    for name, runs in results.models.items():
        counted = counts.count_model(counts.model_of(runs[0].config, runs[0].num_classes))
        add(
            f"ours, {published.title(name)}",
            runs[0],
            [(counted.multiply_adds / 1e9, mean_ap(runs))],
        )
    for study in results.studies.values():
        points = [
            (row_counts(study, row).multiply_adds / 1e9, ap)
            for row in study.rows
            if (ap := study.ap(row)) is not None
        ]
        if points:
            add(f"ours, {study.name}", study.all_runs[0], points)
    return on_coco, elsewhere


def _draw_paper(axes: Any) -> None:
    ours = published.EFFICIENTDET
    costs = [numbers.multiply_adds for numbers in ours.values()]
    aps = [numbers.ap_val for numbers in ours.values()]
    axes.plot(costs, aps, color=COLORS[0], marker="o", label="EfficientDet, paper")
    for name, cost, ap in zip(ours, costs, aps, strict=True):
        axes.annotate(
            published.title(name),
            (cost, ap),
            xytext=(-5, 5),
            textcoords="offset points",
            ha="right",
        )
    others = published.OTHERS
    costs = [numbers.multiply_adds for numbers in others.values()]
    aps = [_ap(numbers)[0] for numbers in others.values()]
    axes.scatter(costs, aps, color=GREY, marker="x", label="other detectors, paper", zorder=3)
    for (name, numbers), cost, ap in zip(others.items(), costs, aps, strict=True):
        side, above = _NAME_PLACES.get(name, ("left", -3))
        axes.annotate(
            f"{name}{_ap(numbers)[1]}",
            (cost, ap),
            xytext=({"left": 6, "right": -6, "center": 0}[side], above),
            textcoords="offset points",
            ha=side,
            fontsize=7,
            color=GREY,
        )
    axes.set_xscale("log")
    axes.set_xlim(1.5, 3e4)
    name_cost_axes(axes, costs)


def _ap(numbers: published.Detector) -> tuple[float, str]:
    on_test = numbers.ap_test is not None
    return (numbers.ap_test, "") if on_test else (numbers.ap_val, ", val")


def _draw_ours(axes: Any, series: Mapping[str, Points]) -> None:
    for i, (label, points) in enumerate(series.items(), 1):
        color, marker = COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]
        plot_points(axes, points, color=color, fmt=marker, label=label)
