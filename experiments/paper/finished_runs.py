"""Reads the results of finished runs: the folder of a sweep, or the workdir of a single run.

Only small text files are read (sweep.json, and config.json, metrics.json, metrics.jsonl and
finished.json of each run), so the checkpoints are not needed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bifpn_jax.errors import UserError
from bifpn_jax.evaluation.metrics import COCO_LIMIT
from bifpn_jax.evaluation.results import EVALUATION_FILE
from bifpn_jax.json_files import read_json
from bifpn_jax.runs.logs import CONFIG_FILE, FINISHED_FILE, METRICS_FILE
from experiments.paper.same_config import check_same_config
from experiments.paper.statistics import Measured
from experiments.sweeps.folder import SWEEP_FILE


class Run(NamedTuple):
    """A finished run.

    Attributes:
        folder: its workdir.
        config: the whole config as JSON; the AP is for its `eval.max_detections`.
        ap: AP of its last evaluation, 0..1.
        num_classes: number of classes of its model.
        seconds: how long it trained.
    """

    folder: Path
    config: dict[str, Any]
    ap: float
    num_classes: int
    seconds: float


class Study(NamedTuple):
    """The folder of a sweep.

    Attributes:
        folder: the folder as it was given.
        name: name of the study, "fusion".
        config_file: config file and argument, "configs/ablations/fusion.py:shapes".
        rows: row -> its changes to the config, {dotted field: value}.
        runs: row -> its finished runs by seed.
        left_out: why each of the other runs was skipped, "fast/seed_2 stopped at step 40".
    """

    folder: Path
    name: str
    config_file: str
    rows: dict[str, dict[str, Any]]
    runs: dict[str, dict[int, Run]]
    left_out: tuple[str, ...]

    def ap(self, row: str) -> Measured | None:
        """Return the AP of a row over its seeds, 0..1; None if no run is finished."""
        return mean_ap(self.runs.get(row, {}).values())

    @property
    def all_runs(self) -> list[Run]:
        """Return the finished runs of all rows."""
        return [run for runs in self.runs.values() for run in runs.values()]

    @property
    def seeds(self) -> list[int]:
        """Return the seeds of the finished runs."""
        return sorted({seed for runs in self.runs.values() for seed in runs})


class Results(NamedTuple):
    """The contents of the folders on the command line.

    Attributes:
        studies: studies by name.
        models: single runs outside of studies, by the name of their model, "d0".
    """

    studies: dict[str, Study]
    models: dict[str, list[Run]]


def mean_ap(runs: Iterable[Run]) -> Measured | None:
    """Return the AP over some runs, 0..1; None if there are none."""
    values = tuple(run.ap for run in runs)
    return Measured(values) if values else None


def read_results(folders: Sequence[str | Path]) -> Results:
    """Read folders of sweeps and workdirs of single runs.

    Raises:
        UserError: a folder is neither, two belong to the same study, or a file cannot be read.
    """
    studies, models = {}, {}
    for folder in map(Path, folders):
        if (folder / SWEEP_FILE).is_file():
            study = read_study(folder)
            if study.name in studies:
                raise UserError(
                    f"{studies[study.name].folder} and {folder} are both of the study "
                    f"{study.name!r}: give one at a time, each with its own --output."
                )
            studies[study.name] = study
        elif (folder / CONFIG_FILE).is_file():
            run = _read_run(folder)
            if isinstance(run, str):
                raise UserError(f"{folder}: this run {run}; let it finish, or leave it out.")
            models.setdefault(run.config["model"]["name"], []).append(run)
        else:
            raise UserError(f"no {SWEEP_FILE} in {folder}: {_hint(folder)}")
    for runs in models.values():
        check_same_config({str(run.folder): run.config for run in runs})
    return Results(studies, models)


def read_study(folder: Path) -> Study:
    """Read the folder of a sweep.

    Raises:
        UserError: a file cannot be read, or runs in one row have different configs.
    """
    sweep = read_json(folder / SWEEP_FILE)
    try:
        name, rows, seeds = sweep["study"], dict(sweep["rows"]), set(sweep["seeds"])
        config_file = sweep["config"]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / SWEEP_FILE} is not what experiments.sweep writes ({error!r}); run the "
            "sweep again, it keeps finished runs."
        ) from error
    runs, left_out = {row: {} for row in rows}, []
    for row in rows:
        for seed in sorted(seeds | _seeds_in(folder / row)):
            run = _read_run(folder / row / f"seed_{seed}")
            if isinstance(run, str):
                left_out.append(f"{row}/seed_{seed} {run}")
            else:
                runs[row][seed] = run
    for of_row in runs.values():
        check_same_config({str(run.folder): run.config for run in of_row.values()})
    # Rows may differ only in the fields that the sweep sets for them.
    changed = {field for fields in rows.values() for field in fields}
    firsts = [next(iter(of_row.values())) for of_row in runs.values() if of_row]
    check_same_config({str(run.folder): run.config for run in firsts}, but=changed)
    return Study(folder, name, config_file, rows, runs, tuple(left_out))


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file with a JSON object per line, in the order of the steps.

    A resumed run repeats steps, of which the later line counts; an unfinished last line of a killed
    run is ignored.
    """
    by_step = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); check the folder.") from error
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            by_step[values["step"]] = values
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise UserError(
                f"{path}, line {number}: not a JSON object with a step; restore the file."
            ) from error
    return [by_step[step] for step in sorted(by_step)]


def _read_run(folder: Path) -> Run | str:
    """Return a finished run, or the reason why it is not one."""
    if not (folder / FINISHED_FILE).is_file():
        return _progress(folder)
    config, finished = read_json(folder / CONFIG_FILE), read_json(folder / FINISHED_FILE)
    metrics = read_json(folder / EVALUATION_FILE)
    try:
        step, evaluated, last = finished["step"], metrics["step"], config["train"]["steps"]
        if step < last:
            return f"stopped at step {step} of {last}"
        if evaluated != step:
            return f"ends at step {step} but {EVALUATION_FILE} is of step {evaluated}"
        if metrics["AP"] is None:
            return "has no AP, its evaluation data has no objects"
        # A file without a stated limit used COCO's, whatever the config says; runs with different
        # limits are not comparable.
        limit = metrics.get("max_detections", COCO_LIMIT)
        config["eval"] = {**config.get("eval", {}), "max_detections": limit}
        # Evaluation data may list more or fewer classes than the model has.
        num_classes = metrics.get("num_classes", len(metrics["per_class"]))
        return Run(folder, config, metrics["AP"], num_classes, float(finished["seconds"]))
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{folder} is not the workdir of a training run ({error!r} in {CONFIG_FILE}, "
            f"{EVALUATION_FILE} or {FINISHED_FILE}); train it again in an empty folder."
        ) from error


def _progress(folder: Path) -> str:
    if not folder.is_dir():
        return "not started"
    log = folder / METRICS_FILE
    lines = read_lines(log) if log.is_file() else []
    return f"stopped at step {lines[-1]['step']}" if lines else "stopped before its first step"


def _seeds_in(folder: Path) -> set[int]:
    ends = (path.name.removeprefix("seed_") for path in folder.glob("seed_*"))
    return {int(end) for end in ends if end.isdecimal()}


def _hint(folder: Path) -> str:
    if not folder.is_dir():
        return "there is no such folder; give the --workdir of experiments.sweep."
    inside = sorted(str(path.parent) for path in folder.glob(f"*/{SWEEP_FILE}"))
    if inside:
        return f"these folders in it have one: {', '.join(inside)}."
    return "give the --workdir of experiments.sweep, or the workdir of a finished run."


def describe_data(config: Mapping[str, Any]) -> str:
    """Return the name of the data that a run was evaluated on."""
    data = config["data"]
    return Path(data["eval_annotations"]).name if data["source"] == "coco_json" else data["source"]


def is_coco(config: Mapping[str, Any]) -> bool:
    """Whether a run was evaluated on COCO's val2017, the only data that the paper reports AP on."""
    return describe_data(config) in ("coco2017", "instances_val2017.json")
