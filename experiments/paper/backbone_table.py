"""Table 4: the gains from the backbone and from BiFPN."""

from bifpn_jax.evaluation.metrics import SCORE_DIGITS
from experiments.paper import counts, paper_numbers
from experiments.paper.finished_runs import Study
from experiments.paper.table import NOT_RUN, Column, Table, or_not_run
from experiments.paper.wording import MEANING, left_out, where_from

STUDY = "backbone_vs_bifpn"
_COLUMNS = (
    Column("Detector"),
    Column("AP: paper", 3),
    Column("AP: ours", SCORE_DIGITS),
    Column("Parameters, M: paper"),
    Column("Parameters, M: ours"),
    Column("Multiply-adds, B: paper"),
    Column("Multiply-adds, B: ours"),
)


def table4(study: Study | None) -> Table:
    """Return the paper's rows, with counts of the configs at the paper's scale."""
    configs = counts.study_configs(STUDY)
    rows = []
    for row, paper in paper_numbers.BACKBONES.items():
        ours = [NOT_RUN, NOT_RUN]
        if row in configs:
            counted = counts.count_model(counts.model_of(configs[row], counts.COCO_OUTPUTS))
            ours = [counted.parameters / 1e6, counted.multiply_adds / 1e9]
        rows.append(
            [
                paper.title,
                paper.ap,
                or_not_run(study and study.ap(row)),
                paper.parameters,
                ours[0],
                paper.multiply_adds,
                ours[1],
            ]
        )
    caption = (
        f"{MEANING} Parameters are trainable ones, with 90 classes; multiply-adds are of one image "
        f"at the model's own size; both are counted from configs/ablations/{STUDY}.py at the "
        f"paper's scale, trained or not. There is no ResNet in this code base. "
        f"{where_from(study, STUDY)}"
    )
    title = "Table 4: backbone against BiFPN"
    return Table("table4", title, _COLUMNS, rows, caption, left_out(study))
