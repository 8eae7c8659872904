"""Executes the runs of a sweep here, one after another."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from bifpn_jax.evaluation.metrics import format_score
from bifpn_jax.evaluation.results import EVALUATION_FILE
from bifpn_jax.runs.interruption import Interrupted, StopRequest
from bifpn_jax.runs.progress import format_seconds
from experiments.sweeps.folder import (
    FINISHED_FILE,
    LOG_FILE,
    delete_checkpoints,
    forget_finished,
    is_finished,
    read_object,
)
from experiments.sweeps.plan import Run
from experiments.sweeps.progress import GridLine, log_size, read_status, remaining_seconds

_TICK_SECONDS = 1.0


class Failure(NamedTuple):
    """A run that did not finish.

    Attributes:
        run: the run.
        reason: how it ended, with the last line that it printed.
    """

    run: Run
    reason: str


def run_all(
    runs: Sequence[Run],
    *,
    before: Sequence[str] = (),
    lock: int,
    delete: bool = False,
    line: GridLine | None = None,
) -> list[Failure]:
    """Execute the runs that are not finished, one after another; a failure does not stop the rest.

    Args:
        runs: the runs, in the order of running.
        before: words before each command.
        lock: file descriptor that a run inherits.
        delete: whether to delete the checkpoints of finished runs.
        line: the status line.

    Returns:
        The runs that failed.

    Raises:
        Interrupted: after SIGINT or SIGTERM, which was passed on to the current run; it has ended.
    """
    line = line or GridLine(len(runs))
    finished = [run for run in runs if is_finished(run)]
    waiting = [run for run in runs if not is_finished(run)]
    seconds: dict[str, list[float]] = {}
    for run in finished:
        seconds.setdefault(run.row, []).append(_trained_seconds(run))
        if delete:
            delete_checkpoints(run)
    done, failures = len(finished), []
    if done:
        line.write(f"{done} of {len(runs)} runs are finished already")
    with StopRequest() as stop:
        while waiting and stop.signal is None:
            run = waiting.pop(0)
            fresh = log_size(run.workdir) == 0
            show = _make_show(run, seconds, waiting, line, done, len(failures))
            began = time.monotonic()
            status, printed = _run_one(run, before, lock, stop, show)
            took = time.monotonic() - began
            if status == 0 and is_finished(run):
                done += 1
                seconds.setdefault(run.row, []).append(took if fresh else _trained_seconds(run))
                line.write(f"{run}: {_result(run)} in {format_seconds(took)}")
                if delete:
                    delete_checkpoints(run)
            elif stop.signal is None:
                failures.append(Failure(run, describe_end(status, printed)))
                line.write(failed_line(failures[-1]))
    line.close()
    if stop.signal is not None:
        line.write(
            f"{stop.signal.name}: stopped with {done} of {len(runs)} runs finished; the same "
            "command continues there"
        )
        raise Interrupted(stop.signal)
    return failures


def failed_line(failure: Failure) -> str:
    """Return one line about a failure, with the path of its log."""
    return f"failed: {failure.run}: {failure.reason} (see {failure.run.workdir / LOG_FILE})"


def _run_one(
    run: Run,
    before: Sequence[str],
    lock: int,
    stop: StopRequest,
    show: Callable[[], None],
) -> tuple[int, str]:
    """Execute one run; return the exit status and the last line of its output."""
    try:
        run.workdir.mkdir(parents=True, exist_ok=True)
        forget_finished(run)
        with (run.workdir / LOG_FILE).open("a+b") as log:
            start = log.seek(0, os.SEEK_END)
            # A separate session: Ctrl-C on the terminal must reach it only once, from here.
            process = subprocess.Popen(
                [*before, *run.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock,),
            )
            status = _wait(process, stop, show)
            log.seek(start)
            return status, last_line(log.read().decode(errors="replace"))
    except OSError as error:
        return 1, f"{error.filename}: {error.strerror}"


def _wait(process: subprocess.Popen, stop: StopRequest, show: Callable[[], None]) -> int:
    """Wait for a run, passing on the sweep's signals, and return its exit status."""
    forwarded = False
    try:
        while True:
            if stop.signal is not None and not forwarded:
                os.killpg(process.pid, stop.signal)
                forwarded = True
            show()
            with suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=_TICK_SECONDS)
    except BaseException:  # A second Ctrl-C: stop waiting for it to save.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def _make_show(
    run: Run,
    seconds: dict[str, list[float]],
    waiting: Sequence[Run],
    line: GridLine,
    done: int,
    failed: int,
) -> Callable[[], None]:
    began, start = time.monotonic(), log_size(run.workdir)
    before = read_status(run.workdir, run.config.train)
    first = before.fraction if before else 0.0
    rows = [other.row for other in waiting]

    def show() -> None:
        status = read_status(run.workdir, run.config.train, start=start)
        eta = remaining_seconds(
            seconds,
            rows,
            run.row,
            elapsed=time.monotonic() - began,
            first=first,
            now=status.fraction if status else first,
        )
        text = f"{run}: {status.text if status else 'starting'}"
        line.update(done, failed, text, eta)

    return show


def _trained_seconds(run: Run) -> float:
    return float((read_object(run.workdir / FINISHED_FILE) or {}).get("seconds", 0.0))


def _result(run: Run) -> str:
    ap = (read_object(run.workdir / EVALUATION_FILE) or {}).get("AP")
    return "finished" if ap is None else f"AP {format_score(ap)}"


def last_line(text: str) -> str:
    """Return the last line of a program's output that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def describe_end(status: int, printed: str) -> str:
    """Return how an unfinished run ended, from its exit status and its last line."""
    if status == 0:
        how = "it ended before its last step"
    elif status < 0:
        how = f"killed by {signal.Signals(-status).name}"
    else:
        how = f"exit status {status}"
    return f"{how}: {printed}" if printed else how
