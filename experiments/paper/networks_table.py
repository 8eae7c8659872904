"""Table 5: feature networks with the same backbone and heads."""

from collections.abc import Iterable, Sequence

from bifpn_jax.evaluation.metrics import SCORE_DIGITS
from experiments.paper import counts, paper_numbers
from experiments.paper.finished_runs import Study
from experiments.paper.table import Cell, Column, Table, or_not_given, or_not_run
from experiments.paper.wording import MEANING, left_out, where_from

STUDY = "feature_networks"
REFERENCE = "panet"
TOLERANCE = 0.03
_COLUMNS = (
    Column("Feature network"),
    Column("AP: paper", 4),
    Column("AP: ours", SCORE_DIGITS),
    Column("Parameter ratio: paper", 2),
    Column("Parameter ratio: ours, network", 3),
    Column("Parameter ratio: ours, model", 3),
    Column("Multiply-add ratio: paper", 2),
    Column("Multiply-add ratio: ours, network", 3),
    Column("Multiply-add ratio: ours, model", 3),
)
_NOT_COUNTED = "not counted"  # a row that configs/ablations does not have
_NETWORK_COLUMNS = ((3, 4), (6, 7))  # paper, ours


def table5(study: Study | None) -> Table:
    """Return all rows of the study, in the paper or not, with counts at the paper's scale."""
    configs = counts.study_configs(STUDY)
    models = {row: counts.model_of(config, counts.COCO_OUTPUTS) for row, config in configs.items()}
    reference = models[REFERENCE]
    rows = {}
    for row, model in models.items():
        paper = paper_numbers.NETWORKS.get(row)
        network = _ratios(counts.count_network(model), counts.count_network(reference))
        whole = _ratios(counts.count_model(model), counts.count_model(reference))
        rows[row] = [
            paper.title if paper else row,
            or_not_given(paper and paper.ap),
            or_not_run(study and study.ap(row)),
            or_not_given(paper and paper.parameter_ratio),
            network[0],
            whole[0],
            or_not_given(paper and paper.multiply_add_ratio),
            network[1],
            whole[1],
        ]
    for row in study.rows if study else ():
        if row not in rows:
            absent = [or_not_given(None), _NOT_COUNTED, _NOT_COUNTED]
            rows[row] = [row, or_not_given(None), or_not_run(study.ap(row)), *absent, *absent]
    caption = (
        f"{MEANING} A ratio is a row's number over that of "
        f"{paper_numbers.NETWORKS[REFERENCE].title}. Ours are counted from "
        "configs/ablations/feature_networks.py at the paper's scale (90 classes), trained or "
        "not: of the feature network alone, which is what the paper's ratios "
        "fit, and of the whole model, where backbone and heads are the same in all rows. "
        f"{where_from(study, STUDY)}"
    )
    notes = [_far_rows(rows.values()), *left_out(study)]
    return Table(
        "table5", "Table 5: feature networks", _COLUMNS, list(rows.values()), caption, notes
    )


def _ratios(of: counts.Counts, to: counts.Counts) -> tuple[float, float]:
    return of.parameters / to.parameters, of.multiply_adds / to.multiply_adds


def _far_rows(rows: Iterable[Sequence[Cell]]) -> str:
    """Return which ratios of the network alone differ from the paper's, and by how much."""
    far = []
    for row in rows:
        for (paper, ours), what in zip(
            _NETWORK_COLUMNS, ("parameters", "multiply-adds"), strict=True
        ):
            if not isinstance(row[paper], str) and abs(row[ours] - row[paper]) > TOLERANCE:
                far.append(f"{row[0]}, {what} ({row[ours]:.3f} for {row[paper]:.2f})")
    if not far:
        return f"All ratios of the network alone are within {TOLERANCE} of the paper's."
    return f"Further than {TOLERANCE} from the paper's, network alone: {'; '.join(far)}."
