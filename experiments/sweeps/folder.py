"""The folder of a sweep: sweep.json, which describes it, and a workdir for each run.

DIR/sweep.json           the config file, its rows and the seeds
DIR/ROW/seed_N/          workdir of a run; log.txt in it is the run's console output
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bifpn_jax.errors import UserError
from bifpn_jax.json_files import read_json, write_json
from bifpn_jax.recipe.checks import check_same_run
from bifpn_jax.runs.logs import CONFIG_FILE, FINISHED_FILE
from bifpn_jax.train.checkpoint_reader import FOLDER
from experiments.sweeps.plan import Run, Study, config_flag

SWEEP_FILE = "sweep.json"
LOG_FILE = "log.txt"

# Settings that may change when a sweep is continued: length and logging of the runs.
_FREE_TO_CHANGE = (
    "train.epochs",
    "train.steps",
    "eval.every_epochs",
    "eval.batch_size",
    "checkpoint.",
    "log.",
    "data.num_threads",
    "data.data_dir",
)


def describe(study: Study, seeds: Sequence[int]) -> dict[str, Any]:
    """Return the content of sweep.json."""
    path, _, arg = study.file.partition(":")
    content = {
        "config": study.file,
        "study": study.config.get("study") or Path(path).stem,
        "arg": arg,
        "overrides": study.override_flags,
        "rows": study.rows,
        "seeds": list(seeds),
    }
    return json.loads(json.dumps(content, default=lambda value: value.to_dict()))


def join(workdir: Path, new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of sweep.json for a continued sweep: old and new rows and seeds.

    Args:
        workdir: folder of the sweep; if there is no sweep in it yet, the result is `new`.
        new: the result of `describe` for the sweep that is starting.

    Raises:
        UserError: the folder holds another sweep; the message lists the differences.
    """
    file = workdir / SWEEP_FILE
    if not file.exists():
        return dict(new)
    old = read_object(file)
    if old is None or not {"config", "overrides", "rows", "seeds"} <= set(old):
        raise UserError(f"{file} is damaged; restore it, or take another --workdir.")
    differences = []
    if _config_parts(old["config"]) != _config_parts(new["config"]):
        differences.append(f"--config={new['config']} (it was {old['config']})")
    differences += _changed_overrides(old["overrides"], new["overrides"])
    for row, fields in new["rows"].items():
        if old["rows"].get(row, fields) != fields:
            was = " ".join(config_flag(*item) for item in old["rows"][row].items())
            now = " ".join(config_flag(*item) for item in fields.items())
            differences.append(f"row {row}: {now or 'nothing'} (it was {was or 'nothing'})")
    if differences:
        raise UserError(
            f"{workdir} holds another sweep: {'; '.join(differences)}. "
            "Use its settings to go on with it, or another --workdir."
        )
    return {
        **new,
        "rows": {**old["rows"], **new["rows"]},
        "seeds": sorted({*old["seeds"], *new["seeds"]}),
    }


def write_description(workdir: Path, content: Mapping[str, Any]) -> None:
    """Write sweep.json atomically."""
    write_json(workdir / SWEEP_FILE, content)


@contextmanager
def locked(workdir: Path) -> Iterator[int]:
    """Create the folder and lock it against other sweeps; yield the lock.

    A process that inherits the lock holds it too, so a run that outlives its sweep is not started a
    second time.

    Raises:
        UserError: the folder cannot be created or written, or a sweep is running in it.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = os.open(workdir, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UserError(
            f"--workdir={workdir}: cannot make this folder ({error.strerror}); name another one."
        ) from error
    try:
        if not os.access(workdir, os.W_OK | os.X_OK):
            raise UserError(f"--workdir={workdir}: cannot write there; name another folder.")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{workdir}: a sweep is at work here, or a run that it has left; wait for it, or "
                f"find and stop it: pgrep -af -- --workdir={workdir}"
            ) from None
        except OSError:
            pass  # A file system without locks.
        yield lock
    finally:
        os.close(lock)


def check_earlier(run: Run) -> None:
    """Raise a UserError if the run's workdir holds another run, or a longer one."""
    saved = read_object(run.workdir / CONFIG_FILE)
    if saved is None:
        return
    now = json.loads(run.config.to_json())
    classes = {"label_map": None}  # not known before the data is opened; the run checks them
    check_same_run({"config": now, **classes}, {"config": saved, **classes}, run.workdir)
    finished = read_object(run.workdir / FINISHED_FILE)
    if finished is None:
        return
    train = run.config.train
    name = "steps" if train.steps else "epochs"  # Steps take precedence over epochs.
    if name == "steps":
        length = finished.get("step", 0)
    else:
        length = 0 if saved["train"]["steps"] else saved["train"]["epochs"]
    if train[name] < length:
        raise UserError(
            f"{run.workdir} is finished after {length} {name}, more than config.train.{name}="
            f"{train[name]}: give as many or more, or take another --workdir."
        )


def is_finished(run: Run) -> bool:
    """Whether the run is finished, at the current length in its config."""
    finished = read_object(run.workdir / FINISHED_FILE)
    if finished is None:
        return False
    steps = run.config.train.steps
    if steps:
        return finished.get("step") == steps
    # The steps of an epoch depend on the size of the data; comparing lengths in configs suffices.
    saved = read_object(run.workdir / CONFIG_FILE) or {}
    return all(saved.get("train", {}).get(k) == run.config.train[k] for k in ("epochs", "steps"))


def forget_finished(run: Run) -> None:
    """Remove the finished mark of a shorter run before the run is continued."""
    (run.workdir / FINISHED_FILE).unlink(missing_ok=True)


def delete_checkpoints(run: Run) -> None:
    """Delete the checkpoints of a run; its logs and results stay."""
    shutil.rmtree(run.workdir / FOLDER, ignore_errors=True)


def read_object(file: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file, or None if it cannot be read."""
    try:
        content = read_json(file)
    except UserError:
        return None
    return content if isinstance(content, dict) else None


def _config_parts(config: str) -> tuple[Path, str]:
    path, _, arg = config.partition(":")
    return Path(path).resolve(), arg


def _changed_overrides(old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    were, are = ({word.partition("=")[0]: word for word in words} for words in (old, new))
    for name in sorted({*were, *are}):
        field = name.removeprefix("--config.")
        if were.get(name) != are.get(name) and not field.startswith(_FREE_TO_CHANGE):
            yield f"{are.get(name, f'no {name}')} (it was {were.get(name, 'not set')})"
