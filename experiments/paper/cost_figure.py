"""Figure 1: AP over multiply-adds, the paper's detectors and ours."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from bifpn_jax.inspection.colors import COLORS
from experiments.paper import counts, paper_numbers
from experiments.paper.figure import Drawing
from experiments.paper.finished_runs import Results, Run, describe_data, is_coco, mean_ap
from experiments.paper.plotting import (
    GREY,
    MARKERS,
    Points,
    legend_below,
    name_cost_axes,
    new_figure,
    plot_points,
    shortened,
)
from experiments.paper.point_names import NamedPoint, name_points
from experiments.paper.study_table import row_counts

TITLE = "Figure 1: AP over multiply-adds"

# Positions of the other detectors' names: horizontal alignment, vertical offset in points.
_NAME_PLACES = {
    "Mask R-CNN R101-FPN": ("right", -3),
    "Mask R-CNN X101-FPN": ("right", -3),
    "ResNet-50 + NAS-FPN (1024)": ("left", -6),
    "ResNet-50 + NAS-FPN (1280)": ("left", -3),
    "AmoebaNet + NAS-FPN + AA (1280)": ("center", 7),
    "AmoebaNet + NAS-FPN + AA (1536)": ("center", 7),
}


# On COCO's axis, the paper's names need room at both ends.
_COST_LIMITS = (2.0, 2e4)
_MOST_LETTERS = 40  # of the names of series and of data


class Series(NamedTuple):
    """Our points of one study, or of the runs of one model.

    Attributes:
        label: the label in the legend, "ours, fusion".
        data: the data they were evaluated on.
        points: multiply-adds in billions, and AP.
        names: the names of the points.
    """

    label: str
    data: str
    points: Points
    names: list[str]


def figure1(results: Results) -> Drawing:
    """Draw the paper's points with ours on COCO, and ours on other data in a second panel."""
    on_coco, elsewhere = _our_series(results)
    most = max((sum(len(s.points) for s in part) for part in (on_coco, elsewhere)), default=0)
    height = 4.8 + 0.06 * max(0, most - 15)  # the names of many points need room
    figure, axes = new_figure(2 if elsewhere else 1, width=6.6, height=height)
    _draw_paper(axes[0])
    ours = [point for series in on_coco for point in series.points]
    paper = [*paper_numbers.EFFICIENTDET.values(), *paper_numbers.OTHERS.values()]
    named = [(axes[0], _draw_ours(axes[0], on_coco))]
    limits = axes[0].get_ylim()
    costs = [row.multiply_adds for row in paper] + [cost for cost, _ in ours]
    name_cost_axes(axes[0], [*costs, *_COST_LIMITS])
    axes[0].set_ylim(limits)
    axes[0].set_title("COCO")
    legend_below(axes[0], columns=3)
    caption = (
        "AP over multiply-adds of one image; COCO on a logarithmic axis. The paper's numbers are "
        "those of its Table 2: on val2017 for EfficientDet; for the others on test-dev where the "
        "paper has that, else on val2017 (marked val). "
    )
    if elsewhere:
        data = ", ".join(sorted({series.data for series in elsewhere}))
        named.append((axes[1], _draw_ours(axes[1], elsewhere)))
        points = [point for series in elsewhere for point in series.points]
        name_cost_axes(axes[1], [cost for cost, _ in points], [ap for _, ap in points])
        axes[1].set_title(f"{shortened(data, _MOST_LETTERS)}, not comparable with COCO")
        legend_below(axes[1], columns=3)
        caption += (
            f"Right: ours on {data}, mean ± standard deviation over seeds, a point per row of a "
            "study; these AP cannot be compared with the paper's. "
        )
    for panel, points in named:
        name_points(panel, points)
    labels = ", ".join(series.label for series in on_coco)
    caption += f"Ours on COCO: {labels or 'not run'}."
    return Drawing(TITLE, figure, caption)


def _our_series(results: Results) -> tuple[list[Series], list[Series]]:
    """Return our series on COCO, and those on other data."""
    on_coco, elsewhere = [], []

    def add(label: str, run: Run, points: Points, names: list[str]) -> None:
        series = Series(label, describe_data(run.config), points, names)
        (on_coco if is_coco(run.config) else elsewhere).append(series)

    for name, runs in results.models.items():
        counted = counts.count_model(counts.model_of(runs[0].config, runs[0].num_classes))
        points = [(counted.multiply_adds / 1e9, mean_ap(runs))]
        add(f"ours, {paper_numbers.title(name)}", runs[0], points, [paper_numbers.title(name)])
    for study in results.studies.values():
        found = {row: ap for row in study.rows if (ap := study.ap(row)) is not None}
        points = [(row_counts(study, row).multiply_adds / 1e9, ap) for row, ap in found.items()]
        if points:
            add(f"ours, {study.name}", study.all_runs[0], points, list(found))
    if len({series.data for series in elsewhere}) > 1:
        elsewhere = [s._replace(label=f"{s.label}, on {s.data}") for s in elsewhere]
    return on_coco, elsewhere


def _draw_paper(axes: Any) -> None:
    ours = paper_numbers.EFFICIENTDET
    costs = [numbers.multiply_adds for numbers in ours.values()]
    aps = [numbers.ap_val for numbers in ours.values()]
    axes.plot(costs, aps, color=COLORS[0], marker="o", label="EfficientDet, paper")
    for name, cost, ap in zip(ours, costs, aps, strict=True):
        axes.annotate(
            paper_numbers.title(name),
            (cost, ap),
            xytext=(-5, 5),
            textcoords="offset points",
            ha="right",
        )
    others = paper_numbers.OTHERS
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


def _ap(numbers: paper_numbers.Detector) -> tuple[float, str]:
    on_test = numbers.ap_test is not None
    return (numbers.ap_test, "") if on_test else (numbers.ap_val, ", val")


def _draw_ours(axes: Any, several: Sequence[Series]) -> list[NamedPoint]:
    """Draw our points; return them with their names, which must be drawn last."""
    named = []
    for i, series in enumerate(several, 1):
        color = COLORS[i % len(COLORS)]
        marker = MARKERS[(i + i // len(COLORS)) % len(MARKERS)]
        label = shortened(series.label, _MOST_LETTERS)
        plot_points(axes, series.points, color=color, fmt=marker, label=label)
        for name, (cost, ap) in zip(series.names, series.points, strict=True):
            deviation = 0.0 if ap.n < 2 else ap.deviation
            named.append(NamedPoint(name, cost, ap.mean, deviation, color))
    return named
