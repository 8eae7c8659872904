"""Ctrl-C and SIGTERM as a wish that the training loop reads between two steps."""

import signal
from types import FrameType
from typing import Self


class Interrupted(Exception):  # noqa: N818 - it is no error
    """The run was asked to stop, saved its state and can be resumed; holds the signal."""


class StopRequest:
    """Context in which the first SIGINT or SIGTERM only sets `signal`; a second one acts at once.

    Attributes:
        signal: the signal that arrived, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
