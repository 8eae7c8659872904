"""Table 2: AP, size, operations and latency of D0-D7x."""

from collections.abc import Mapping, Sequence

from bifpn_jax.errors import UserError
from bifpn_jax.evaluation.metrics import SCORE_DIGITS
from experiments.paper import counts, paper_numbers
from experiments.paper.finished_runs import Run, describe_data, is_coco, mean_ap
from experiments.paper.latency import Latency
from experiments.paper.table import Column, Table, or_not_run
from experiments.paper.wording import MEANING

_COLUMNS = (
    Column("Model"),
    Column("AP test-dev: paper", 3),
    Column("AP val: paper", 3),
    Column("AP: ours", SCORE_DIGITS),
    Column("Parameters, M: paper"),
    Column("Parameters, M: ours"),
    Column("Multiply-adds, B: paper"),
    Column("Multiply-adds, B: ours"),
    Column("Latency, ms, Titan V: paper", 0),
    Column("Latency, ms, V100: paper"),
    Column("Latency, ms: ours", 1),
)


def table2(models: Mapping[str, Sequence[Run]], latency: Latency | None) -> Table:
    """The released models.

    Args:
        models: finished runs by the name of their model.
        latency: our measurement, if there is one.

    Raises:
        UserError: the model of a run was modified.
    """
    rows, notes = [], []
    for name, paper in paper_numbers.EFFICIENTDET.items():
        runs = models.get(name, ())
        _check_released(name, runs)
        counted = counts.count_model(
            counts.model_of(counts.released_config(name), counts.COCO_OUTPUTS)
        )
        rows.append(
            [
                paper_numbers.title(name),
                paper.ap_test,
                paper.ap_val,
                or_not_run(mean_ap(runs)),
                paper.parameters,
                counted.parameters / 1e6,
                paper.multiply_adds,
                counted.multiply_adds / 1e9,
                paper.titan_v,
                paper.v100,
                or_not_run(None if latency is None else latency.milliseconds.get(name)),
            ]
        )
        if runs and not is_coco(runs[0].config):
            notes.append(
                f"**AP of our {paper_numbers.title(name)} is on "
                f"`{describe_data(runs[0].config)}` and cannot be compared with the paper's.**"
            )
    measured = (
        "has not been measured (`--latency`)" if latency is None else f"is on {latency.device}"
    )
    caption = (
        f"One model, one scale. {MEANING} Our AP are on val, of the runs that were given. "
        "Parameters are trainable ones with 90 classes, multiply-adds of one image at the model's "
        "size. The paper's latency is for one image on the named GPU; ours, the network alone in "
        f"float32, {measured}."
    )
    return Table("table2", "Table 2: EfficientDet D0–D7x", _COLUMNS, rows, caption, notes)


def _check_released(name: str, runs: Sequence[Run]) -> None:
    if not runs:
        return
    num_classes = runs[0].num_classes
    model = counts.model_of(runs[0].config, num_classes)
    released = counts.model_of(counts.released_config(name), num_classes)
    free = ("num_classes", "dtype", "survival_prob", "batch_norm_momentum", "parent", "name")
    changed = [
        field
        for field in type(model).__dataclass_fields__
        if field not in free and getattr(model, field) != getattr(released, field)
    ]
    if changed:
        raise UserError(
            f"{runs[0].folder}: this {name} is not the released model (config.model."
            f"{', config.model.'.join(changed)} changed) and has no row in Table 2; leave it out."
        )
