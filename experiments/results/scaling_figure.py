"""Figure 6: AP over multiply-adds, a curve per way of scaling."""

from experiments.results.figure import Drawing
from experiments.results.plotting import (
    COLORS,
    MARKERS,
    Points,
    name_cost_axes,
    new_figure,
    plot_points,
)
from experiments.results.runs import Results, Study
from experiments.results.study_table import row_counts
from experiments.results.table import NOT_RUN
from experiments.results.wording import left_out, where_from

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


def figure6(results: Results) -> Drawing:
    """The study "scaling": every curve starts at the base and goes through its factor's steps."""
    study = results.studies.get(STUDY)
    drawn = {} if study is None else _curves(study)
    if not drawn:
        return Drawing(TITLE, None, f"{NOT_RUN.capitalize()}. {where_from(study, STUDY)}")
    figure, (axes,) = new_figure(1, width=6.6, height=4.6)
    for i, (factor, points) in enumerate(drawn.items()):
        plot_points(
            axes,
            points,
            color=COLORS[i % len(COLORS)],
            marker=MARKERS[i % len(MARKERS)],
            linewidth=2.4 if factor == "compound" else 1.4,
            label=_LABELS.get(factor, factor),
        )
    name_cost_axes(axes, [cost for points in drawn.values() for cost, _ in points])
    axes.legend(loc="lower right")
    caption = " ".join(
        [
            "AP over multiply-adds of one image. Every curve starts at the same base and scales "
            "one factor, or all together; bars are standard deviations over seeds. The paper gives "
            f"its own curves without numbers. {where_from(study, STUDY)}",
            *left_out(study),
        ]
    )
    return Drawing(TITLE, figure, caption)


def _curves(study: Study) -> dict[str, Points]:
    """Factor -> points by ascending step, of rows that were run; "width_2" is step 2 of width."""
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
        curves[factor] = [(row_counts(study, row)[1] / 1e9, study.ap(row)) for row in rows]
    return curves
