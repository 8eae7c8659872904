"""How fast a run trains and when it ends: a timer that knows pauses and a line that shows it."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple, TextIO

from tqdm import tqdm


class Speed(NamedTuple):
    """What `Timer.measure` says."""

    images_per_second: float  # since the last measurement
    seconds_per_step: float  # since the last measurement
    eta_seconds: float  # training time to the end of the run, at the average speed since the start
    training_seconds: float  # all training time, with that before a resume


class Timer:
    """Time spent in training steps; that in evaluation and checkpointing does not count.

    Start it after the first step, which compiles; then measure where the loop has waited for the
    device anyway, as at every logged step.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        total_steps: int,
        seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Sets up the timer; it counts training time from now on.

        Args:
            batch_size: images per step, on all devices together.
            total_steps: length of the run.
            seconds: training time before a resume, from `state`.
            clock: function that returns the time in seconds.
        """
        self._batch_size = batch_size
        self._total_steps = total_steps
        self._clock = clock
        self._origin = clock() - seconds
        self._paused = 0.0
        self._pause_start: float | None = None
        self._start = self._last = None

    def start(self, step: int) -> None:
        """Starts measuring at `step`; what came before counts as training, not for the speed."""
        self._start = self._last = (step, self.seconds)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Context in which time does not count."""
        self._pause_start = self._clock()
        try:
            yield
        finally:
            self._paused += self._clock() - self._pause_start
            self._pause_start = None

    @property
    def seconds(self) -> float:
        """Training time until now, with that before a resume."""
        now = self._clock() if self._pause_start is None else self._pause_start
        return now - self._origin - self._paused

    def measure(self, step: int) -> Speed:
        """Speed up to `step`; not a number where no step was made since the last call."""
        now = (step, self.seconds)
        recent, average = _seconds_per_step(self._last, now), _seconds_per_step(self._start, now)
        self._last = now
        return Speed(
            images_per_second=self._batch_size / recent if recent > 0 else math.nan,
            seconds_per_step=recent,
            eta_seconds=(self._total_steps - step) * average,
            training_seconds=self.seconds,
        )

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps: ``Timer(..., **state)`` goes on from there."""
        return {"seconds": self.seconds}


class StatusLine:
    """A bar on a terminal; elsewhere nothing but plain lines."""

    def __init__(self, total: int, *, file: TextIO | None = None, enabled: bool = True) -> None:
        """Shows nothing yet.

        Args:
            total: length of the bar.
            file: where to write; standard error by default.
            enabled: False shows nothing at all; for all processes but the first.
        """
        self._file = file or sys.stderr
        self._enabled = enabled
        self._bar = None
        if enabled and self._file.isatty():
            # An ETA of tqdm itself would count the pauses.
            self._bar = tqdm(
                total=total,
                file=self._file,
                bar_format="{percentage:3.0f}% |{bar:24}| {desc}",
                dynamic_ncols=True,
                miniters=1,
                mininterval=0,
            )

    def show(self, done: int, text: str) -> None:
        """Sets the bar to `done` with `text` behind it, or prints the text."""
        if self._bar is not None:
            self._bar.n = done
            self._bar.set_description_str(text)
        else:
            self.write(text)

    @property
    def on_terminal(self) -> bool:
        """Whether there is a bar."""
        return self._bar is not None

    def write(self, text: str) -> None:
        """Prints a line of its own, above the bar."""
        if self._bar is not None:
            tqdm.write(text, file=self._file)
        elif self._enabled:
            print(text, file=self._file, flush=True)

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.close()


class ProgressLine(StatusLine):
    """The line of a run: loss, images/s and ETA; a plain line per update without a terminal."""

    def __init__(
        self, total_steps: int, *, file: TextIO | None = None, enabled: bool = True
    ) -> None:
        """As `StatusLine`; `total_steps` is the length of the run."""
        super().__init__(total_steps, file=file, enabled=enabled)
        self._total_steps = total_steps

    def update(self, step: int, loss: float, speed: Speed) -> None:
        """Shows the state of the run at `step`."""
        self.show(
            step,
            f"step {step}/{self._total_steps}  loss {float(loss):.4f}  "
            f"{_rate(speed.images_per_second)} images/s  ETA {format_seconds(speed.eta_seconds)}",
        )


def _rate(images_per_second: float) -> str:
    return f"{images_per_second:.1f}" if math.isfinite(images_per_second) else "?"


def format_seconds(seconds: float) -> str:
    """Hours, minutes and seconds, as 1:02:03 or 2 days, 0:00:01; "?" for what is no number."""
    return str(timedelta(seconds=round(seconds))) if math.isfinite(seconds) else "?"


def _seconds_per_step(start: tuple[int, float] | None, end: tuple[int, float]) -> float:
    if start is None or end[0] <= start[0]:
        return math.nan
    return (end[1] - start[1]) / (end[0] - start[0])
