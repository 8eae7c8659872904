"""Speed and remaining time of a run: a timer that can be paused, and a progress line."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple, TextIO

from tqdm import tqdm


class Speed(NamedTuple):
    """The result of `Timer.measure`."""

    images_per_second: float  # since the last measurement
    seconds_per_step: float  # since the last measurement
    eta_seconds: float  # training time to the end of the run, at the average speed since the start
    training_seconds: float  # all training time, including that before a resume


class Timer:
    """Time spent in training steps, without evaluation and checkpointing.

    Start it after the first step, which compiles; then measure where the loop waits for the device
    anyway, as at every logged step.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        total_steps: int,
        seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up the timer; it counts training time from now on.

        Args:
            batch_size: images per step, over all devices.
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
        """Start measuring at `step`; earlier time is training time, but not used for the speed."""
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
        """Training time until now, including that before a resume."""
        now = self._clock() if self._pause_start is None else self._pause_start
        return now - self._origin - self._paused

    def measure(self, step: int) -> Speed:
        """Return the speed up to `step`; NaN if no step was made since the last call."""
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
        """Return the state to checkpoint: ``Timer(..., **state)`` continues from there."""
        return {"seconds": self.seconds}


class StatusLine:
    """A bar on a terminal; elsewhere only plain lines."""

    def __init__(self, total: int, *, file: TextIO | None = None, enabled: bool = True) -> None:
        """Show nothing yet.

        Args:
            total: length of the bar.
            file: where to write; standard error by default.
            enabled: False shows nothing at all, for all processes but the first.
        """
        self._file = file or sys.stderr
        self._enabled = enabled
        self._bar = None
        if enabled and self._file.isatty():
            # tqdm's own ETA would count the pauses.
            self._bar = tqdm(
                total=total,
                file=self._file,
                bar_format="{percentage:3.0f}% |{bar:24}| {desc}",
                dynamic_ncols=True,
                miniters=1,
                mininterval=0,
            )

    def show(self, done: int, text: str) -> None:
        """Set the bar to `done`, followed by `text`, or print the text."""
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
        """Print a separate line above the bar."""
        if self._bar is not None:
            tqdm.write(text, file=self._file)
        elif self._enabled:
            print(text, file=self._file, flush=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


class ProgressLine(StatusLine):
    """The progress line of a run: loss, images/s and ETA; without a terminal, a line per update."""

    def __init__(
        self, total_steps: int, *, file: TextIO | None = None, enabled: bool = True
    ) -> None:
        """As `StatusLine`; `total_steps` is the length of the run."""
        super().__init__(total_steps, file=file, enabled=enabled)
        self._total_steps = total_steps

    def update(self, step: int, loss: float, speed: Speed) -> None:
        """Show the state of the run at `step`."""
        self.show(
            step,
            f"step {step}/{self._total_steps}  loss {float(loss):.4f}  "
            f"{_rate(speed.images_per_second)} images/s  ETA {format_seconds(speed.eta_seconds)}",
        )


def _rate(images_per_second: float) -> str:
    return f"{images_per_second:.1f}" if math.isfinite(images_per_second) else "?"


def format_seconds(seconds: float) -> str:
    """Format seconds as 1:02:03 or 2 days, 0:00:01; "?" for NaN and infinity."""
    return str(timedelta(seconds=round(seconds))) if math.isfinite(seconds) else "?"


def _seconds_per_step(start: tuple[int, float] | None, end: tuple[int, float]) -> float:
    if start is None or end[0] <= start[0]:
        return math.nan
    return (end[1] - start[1]) / (end[0] - start[0])
