"""Progress of a sweep: the latest log of the current run, the remaining time, the status line."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, TextIO

from bifpn_jax.evaluation.metrics import format_score
from bifpn_jax.runs.logs import METRICS_FILE
from bifpn_jax.runs.progress import StatusLine, format_seconds

_TAIL = 16_384  # bytes at the end of a log that hold its last lines
_PLAIN_SECONDS = 60.0  # between two lines if there is no terminal


class Status(NamedTuple):
    """The latest log of a run.

    Attributes:
        step: number of updates made.
        fraction: the fraction of the run that is done, 0 .. 1.
        text: step, loss and AP for display.
    """

    step: int
    fraction: float
    text: str


def log_size(workdir: Path) -> int:
    """Return the bytes of a run's metrics; given to `read_status`, it skips what is there now."""
    try:
        return (workdir / METRICS_FILE).stat().st_size
    except OSError:
        return 0


def read_status(workdir: Path, train: Mapping[str, Any], *, start: int = 0) -> Status | None:
    """Return the status from the end of a run's metrics.jsonl, or None if there is nothing yet.

    Args:
        workdir: the workdir of the run.
        train: `config.train`, for the run's length.
        start: number of bytes to skip.
    """
    try:
        with (workdir / METRICS_FILE).open("rb") as file:
            file.seek(max(start, log_size(workdir) - _TAIL))
            lines = file.read().splitlines()
    except OSError:
        return None
    logged: dict[str, Any] = {}
    for line in lines:
        try:
            logged |= json.loads(line)
        except (ValueError, TypeError):
            continue  # The first line may be cut off and the last unfinished.
    step = logged.get("step", 0)
    if not step:
        return None
    if train["steps"]:
        fraction, text = step / train["steps"], f"step {step}/{train['steps']}"
    else:
        fraction = (logged.get("train/epoch") or 0.0) / train["epochs"]
        text = f"step {step} ({fraction:.0%})"
    if logged.get("train/loss") is not None:
        text += f"  loss {logged['train/loss']:.4f}"
    if logged.get("eval/AP") is not None:
        text += f"  AP {format_score(logged['eval/AP'])}"
    return Status(step, min(fraction, 1.0), text)


def remaining_seconds(
    finished: Mapping[str, Sequence[float]],
    waiting: Sequence[str],
    running: str,
    *,
    elapsed: float,
    first: float,
    now: float,
) -> float:
    """Estimate the time to the end of a sweep; NaN if nothing is known yet.

    A run is assumed to take as long as the finished runs of its row, or else as all finished runs,
    or else as estimated from the speed of the current run.

    Args:
        finished: seconds of the finished runs by row.
        waiting: rows of the runs after the current one.
        running: row of the current run.
        elapsed: its seconds so far.
        first: the fraction of it that was done when it started or was resumed.
        now: the fraction of it that is done.
    """
    everything = [seconds for row in finished.values() for seconds in row]
    speed = (now - first) / elapsed if elapsed > 0 else 0.0
    other = fmean(everything) if everything else 1 / speed if speed > 0 else math.nan

    def expected(row: str) -> float:
        return fmean(finished[row]) if finished.get(row) else other

    return expected(running) * (1 - now) + sum(map(expected, waiting))


class GridLine(StatusLine):
    """The status line of a sweep; without a terminal it is printed once a minute."""

    def __init__(
        self,
        total: int,
        *,
        file: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """As `StatusLine`; `total` counts runs, and `clock` returns the time in seconds."""
        super().__init__(total, file=file)
        self._total = total
        self._clock = clock
        self._shown = -math.inf

    def update(self, done: int, failed: int, running: str, eta_seconds: float) -> None:
        """Show the progress of the sweep.

        Args:
            done: number of finished runs.
            failed: number of failed runs.
            running: the current run and its latest log.
            eta_seconds: time to the end.
        """
        if not self.on_terminal:
            if self._clock() - self._shown < _PLAIN_SECONDS:
                return
            self._shown = self._clock()
        failures = f", {failed} failed" if failed else ""
        self.show(
            done,
            f"{done}/{self._total} runs{failures}  {running}  ETA {format_seconds(eta_seconds)}",
        )
