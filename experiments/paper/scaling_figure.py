"""Figure 6: AP over multiply-adds, a curve per way of scaling."""

from typing import NamedTuple

from bifpn_jax.inspection.colors import COLORS
from experiments.paper.figure import Drawing
from experiments.paper.finished_runs import Results, Study
from experiments.paper.plotting import (
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
from experiments.paper.table import NOT_RUN
from experiments.paper.wording import left_out, where_from

TITLE = "Figure 6: compound scaling against scaling one factor"
STUDY = "scaling"
BASE = "base"
_LABELS = {
    "compound": "compound scaling",
    "image_size": "image size",
    "width": "channels",
    "network_repeats": "BiFPN cells",
    "head_repeats": "head layers",
}
_MOST_LETTERS = 30


def figure6(results: Results) -> Drawing:
    """Draw the study "scaling": every curve starts at the base and follows its factor's steps."""
    study = results.studies.get(STUDY)
    drawn = {} if study is None else _curves(study)
    if not drawn:
        return Drawing(TITLE, None, f"{NOT_RUN.capitalize()}. {where_from(study, STUDY)}")
    rows = sum(len(curve.rows) for curve in drawn.values())
    figure, (axes,) = new_figure(1, width=6.6, height=4.8 + 0.06 * max(0, rows - 15))
    named: dict[str, NamedPoint] = {}
    for i, (factor, curve) in enumerate(drawn.items()):
        color = COLORS[i % len(COLORS)]
        plot_points(
            axes,
            curve.points,
            color=color,
            marker=MARKERS[(i + i // len(COLORS)) % len(MARKERS)],
            linewidth=2.4 if factor == "compound" else 1.4,
            label=_LABELS.get(factor, shortened(factor, _MOST_LETTERS)),
        )
        for row, (cost, ap) in zip(curve.rows, curve.points, strict=True):
            deviation = 0.0 if ap.n < 2 else ap.deviation
            ink = "black" if row == BASE else color
            named.setdefault(row, NamedPoint(row, cost, ap.mean, deviation, ink))
    points = [point for curve in drawn.values() for point in curve.points]
    name_cost_axes(axes, [cost for cost, _ in points], [ap for _, ap in points])
    legend_below(axes, columns=3)
    name_points(axes, list(named.values()))
    caption = " ".join(
        [
            "AP over multiply-adds of one image. Every curve starts at the same base and scales "
            "one factor, or all together; bars are standard deviations over seeds. The paper gives "
            f"its own curves without numbers. {where_from(study, STUDY)}",
            *left_out(study),
        ]
    )
    return Drawing(TITLE, figure, caption)


class Curve(NamedTuple):
    """Rows of a study, with their multiply-adds in billions and their AP."""

    rows: list[str]
    points: Points


def _curves(study: Study) -> dict[str, Curve]:
    """Return factor -> finished rows by ascending step; "width_2" is step 2 of width."""
    steps: dict[str, list[tuple[float, str]]] = {}
    for row in study.rows:
        factor, _, step = row.rpartition("_")
        if step.isdecimal() and study.ap(row) is not None:
            steps.setdefault(factor, []).append((int(step), row))
    known = [factor for factor in _LABELS if factor in steps]
    base = [BASE] if study.ap(BASE) is not None else []
    curves = {}
    for factor in [*known, *(factor for factor in steps if factor not in known)]:
        rows = [*base, *(row for _, row in sorted(steps[factor]))]
        points = [(row_counts(study, row).multiply_adds / 1e9, study.ap(row)) for row in rows]
        curves[factor] = Curve(rows, points)
    return curves
