"""Table 6: softmax against fast normalised fusion."""

from pathlib import Path
from typing import Any, NamedTuple

from bifpn_jax.errors import UserError
from bifpn_jax.evaluation.metrics import SCORE_DIGITS
from bifpn_jax.json_files import read_json
from experiments.paper import paper_numbers
from experiments.paper.finished_runs import Study
from experiments.paper.statistics import Measured, difference
from experiments.paper.study_table import format_difference, format_margin
from experiments.paper.table import Cell, Column, Table, or_not_given, or_not_run
from experiments.paper.wording import MEANING, left_out, where_from

STUDY = "fusion"
SPEED_FILE = "fusion_speed.json"
_COLUMNS = (
    Column("Model"),
    Column("AP: softmax", SCORE_DIGITS),
    Column("AP: fast", SCORE_DIGITS),
    Column("AP: fast less softmax", SCORE_DIGITS),
    Column("Speed-up, forward", 2),
    Column("Speed-up, training step", 2),
)


class FusionSpeed(NamedTuple):
    """Speed-up of fast fusion over softmax: time with softmax over time with fast."""

    forward: Measured
    train_step: Measured
    device: str


def read_fusion_speed(folders: list[Path]) -> FusionSpeed | None:
    """Return the measurement in the first folder that has one; None if none has."""
    for folder in folders:
        path = folder / SPEED_FILE
        if path.is_file():
            content = read_json(path)
            try:
                return FusionSpeed(
                    _ratios(content["forward"]), _ratios(content["train_step"]), content["device"]
                )
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(
                    f"{path} does not hold ratios of forward and train_step ({error!r}); measure "
                    "again."
                ) from error
    return None


def table6(study: Study | None, speed: FusionSpeed | None) -> Table:
    """Return the rows of the paper's three models, and ours."""
    rows: list[list[Cell]] = []
    for model, paper in paper_numbers.FUSION.items():
        aps = [paper.softmax_ap, paper.fast_ap, format_difference(paper.difference)]
        rows.append([f"Paper, {model}", *aps, paper.speed_up, or_not_given(None)])
    softmax, fast = (study.ap(row) if study else None for row in ("softmax", "fast"))
    rows.append(
        [
            "Ours",
            or_not_run(softmax),
            or_not_run(fast),
            or_not_run(None if softmax is None or fast is None else _difference(fast, softmax)),
            or_not_run(speed and speed.forward),
            or_not_run(speed and speed.train_step),
        ]
    )
    measured = (
        "has not been measured"
        if speed is None
        else f"was measured on {speed.device}, n times side by side"
    )
    caption = (
        f"{MEANING} Speed-up is the time with softmax over the time with fast fusion, so above 1 "
        "fast fusion is faster; the paper gives one number and does not say of which pass. Ours "
        f"{measured}. The difference of AP is given with its 95 % interval (Welch). "
        f"{where_from(study, STUDY)}"
    )
    title = "Table 6: softmax against fast fusion"
    return Table("table6", title, _COLUMNS, rows, caption, left_out(study))


def _difference(fast: Measured, softmax: Measured) -> str:
    found = difference(fast, softmax)
    return f"{format_difference(found.value)} ({format_margin(found)})"


def _ratios(part: Any) -> Measured:
    values = tuple(map(float, part["ratios"]))
    if not values:
        raise ValueError("no ratios")
    return Measured(values)
