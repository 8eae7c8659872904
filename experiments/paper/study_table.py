"""The table of any study: size and AP of its rows, and which differences are more than noise."""

from ml_collections import ConfigDict

from bifpn_jax.evaluation.metrics import SCORE_DIGITS
from experiments.paper import counts
from experiments.paper.finished_runs import Study
from experiments.paper.statistics import Difference, difference
from experiments.paper.table import Cell, Column, Table, or_not_run
from experiments.paper.wording import MEANING, left_out, where_from

REFERENCES = {
    "fusion": "fast",
    "feature_networks": "bifpn",
    "backbone_vs_bifpn": "bifpn",
    "scaling": "base",
}


def study_table(study: Study) -> Table:
    """Return the table of a study; the models are those that were trained, at any scale."""
    reference = reference_row(study)
    columns = (
        Column("Row"),
        Column("Parameters, M"),
        Column("Multiply-adds, B"),
        Column("AP", SCORE_DIGITS),
        Column(f"AP less that of {reference}"),
        Column("95 % interval"),
        Column("More than noise"),
        Column("Minutes per run", 1),
    )
    rows = []
    for row in study.rows:
        counted = row_counts(study, row)
        sizes = (None, None) if counted is None else counted
        rows.append(
            [
                row,
                or_not_run(sizes[0] and sizes[0] / 1e6),
                or_not_run(sizes[1] and sizes[1] / 1e9),
                or_not_run(study.ap(row)),
                *_comparison(study, row, reference),
                or_not_run(_minutes(study, row)),
            ]
        )
    seeds = ", ".join(map(str, study.seeds)) or "none"
    caption = (
        f"{MEANING} Seeds: {seeds}. Sizes are of this study's models, "
        f"multiply-adds of one image. A difference to `{reference}` is more than noise where its "
        "95 % interval (Welch's t, each row by itself) leaves out 0. "
        f"{where_from(study, study.name)}"
    )
    title = f"Study: {study.name}"
    return Table(f"study_{study.name}", title, columns, rows, caption, left_out(study))


def reference_row(study: Study) -> str:
    """Return the row that the others are compared with; for custom studies, the first."""
    reference = REFERENCES.get(study.name)
    return reference if reference in study.rows else next(iter(study.rows))


def row_counts(study: Study, row: str) -> counts.Counts | None:
    """Return the size of a row's model, trained or not; None if no finished run determines it.

    The row's own runs determine it, and so do those of a row that sets only fields of this row.
    """
    fields = study.rows[row]
    near = [row, *(other for other, set_there in study.rows.items() if {*set_there} <= {*fields})]
    for run in (run for other in near for run in study.runs[other].values()):
        config = ConfigDict(run.config)
        config.update_from_flattened_dict(fields)
        return counts.count_model(counts.model_of(config, run.num_classes))
    return None


def format_difference(value: float) -> str:
    """Format a difference of AP with its sign."""
    return f"{value:+.{SCORE_DIGITS}f}"


def format_margin(found: Difference) -> str:
    """Format half the width of an interval, or say why there is none."""
    return "needs two seeds" if found.separated is None else f"± {found.margin:.{SCORE_DIGITS}f}"


def _minutes(study: Study, row: str) -> float | None:
    seconds = [run.seconds for run in study.runs[row].values()]
    return sum(seconds) / len(seconds) / 60 if seconds else None


def _comparison(study: Study, row: str, reference: str) -> list[Cell]:
    ap, reference_ap = study.ap(row), study.ap(reference)
    if row == reference:
        return ["reference"] * 3
    if ap is None or reference_ap is None:
        return [or_not_run(None)] * 3
    found = difference(ap, reference_ap)
    if found.separated is None:
        return [format_difference(found.value), "needs two seeds", "needs two seeds"]
    low, high = found.value - found.margin, found.value + found.margin
    verdict = ("higher" if found.value > 0 else "lower") if found.separated else "no"
    interval = f"{format_difference(low)} to {format_difference(high)}"
    return [format_difference(found.value), interval, verdict]
