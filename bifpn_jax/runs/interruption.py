"""Ctrl-C and SIGTERM as requests that the training loop reads between two steps."""

import os
import signal
import time
from types import FrameType
from typing import Self

from bifpn_jax.train import exchange


class Interrupted(Exception):  # noqa: N818 - not an error
    """The run was asked to stop, saved its state and can be resumed; holds the signal."""


# Schedulers and `timeout` signal a process and then its group, which counts as one request.
_SAME_WISH = 1.0  # seconds


class StopRequest:
    """Context in which the first SIGINT or SIGTERM only sets `signal`; a second acts at once.

    With `common`, for several processes that must stop at the same step, SIGTERM is left to JAX,
    which notifies the other processes; Ctrl-C becomes a SIGTERM.

    Attributes:
        signal: the signal that arrived, or None.
    """

    def __init__(self, *, common: bool = False) -> None:
        self.signal: signal.Signals | None = None
        self._common = common
        self._asked = 0.0  # when, once there is a signal
        self._previous: dict[int, object] = {}

    def after(self, step: int) -> signal.Signals | None:
        """The signal, if the run is to stop after this step; to be asked at every step."""
        if self._common and exchange.reached_common_stop(step):
            self.signal = signal.SIGTERM
        return self.signal

    def __enter__(self) -> Self:
        if self._common:
            self._previous[signal.SIGINT] = signal.signal(signal.SIGINT, self._pass_on)
            return self
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._asked = signal.Signals(number), now
            if os.isatty(2):  # Not by print, which a signal can interrupt.
                text = (
                    f"\n{self.signal.name}: stops after this step; a second signal stops at once\n"
                )
                os.write(2, text.encode())
        elif now - self._asked > _SAME_WISH:
            self._restore()
            os.kill(os.getpid(), number)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._restore()
        os.kill(os.getpid(), signal.SIGTERM)

    def _restore(self) -> None:
        # Another signal can arrive in between, and restores the rest.
        while self._previous:
            signal.signal(*self._previous.popitem())


class StopAtOnce:
    """Context in which SIGINT and SIGTERM raise `Interrupted`, while there is nothing to save yet.

    With `common`, for several processes, signals are not handled.
    """

    def __init__(self, *, common: bool = False) -> None:
        self._common = common
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        if not self._common:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._raise)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End the handling of signals before the context ends."""
        while self._previous:
            signal.signal(*self._previous.popitem())

    def _raise(self, number: int, frame: FrameType | None) -> None:
        # The same request may be sent to the process and to its group.
        for other in self._previous:
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(signal.Signals(number))
