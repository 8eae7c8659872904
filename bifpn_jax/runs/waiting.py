"""Long waits that are reported and that Ctrl-C ends: opening data, tracing, compiling.

XLA compiles in C++, where Python handles no signals. So the work is done in another thread, while
the main thread waits in short intervals, reports how long it has waited, and can abandon the work.
"""

import contextlib
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from signal import Signals
from typing import Any, TextIO

import jax

from bifpn_jax.errors import UserError
from bifpn_jax.json_files import read_json, write_json
from bifpn_jax.runs.interruption import Interrupted

_TURN = 0.1  # seconds between two checks whether to stop
_KEPT = 200  # durations in the file

# Threads that are no longer waited for; they end with the process.
_abandoned: list[threading.Thread] = []


class Durations:
    """How long something took last time, by key, in a JSON file that may be lost."""

    def __init__(self, path: str | Path | None) -> None:
        """`path` is the file; None remembers nothing."""
        self._path = Path(path) if path is not None else None

    def last(self, key: str) -> float | None:
        """Return the duration in seconds, or None if it is unknown."""
        seconds = self._read().get(key)
        return float(seconds) if isinstance(seconds, int | float) else None

    def note(self, key: str, seconds: float) -> None:
        """Record a duration, if the file can be written."""
        if self._path is None or not key:
            return
        kept = {k: v for k, v in self._read().items() if k != key} | {key: round(seconds, 1)}
        with contextlib.suppress(OSError):  # A read-only or full cache is no reason to stop.
            write_json(self._path, dict(list(kept.items())[-_KEPT:]))

    def _read(self) -> dict[str, Any]:
        if self._path is None or not self._path.exists():
            return {}
        try:
            content = read_json(self._path)
        except UserError:
            return {}
        return content if isinstance(content, dict) else {}


class Waits:
    """Runs long tasks in a thread, and prints what is being waited for and for how long.

    On a terminal this is one line that changes every second; elsewhere a line at the start, one
    every `every` seconds and one at the end, on standard output, so that standard error has only
    what is worth reading afterwards.
    """

    def __init__(
        self,
        *,
        file: TextIO | None = None,
        enabled: bool = True,
        every: float = 20.0,
        durations: Durations | None = None,
        stop: Callable[[], Signals | None] = lambda: None,
    ) -> None:
        """Print nothing yet.

        Args:
            file: where to write; by default standard error if that is a terminal, else standard
                output.
            enabled: False prints nothing, for all processes but the first.
            every: seconds between lines if there is no terminal.
            durations: durations of earlier runs.
            stop: called repeatedly; returns a signal if the wait is to end.
        """
        self._file = file or (sys.stderr if sys.stderr.isatty() else sys.stdout)
        self._enabled, self._every = enabled, every
        self._durations = durations or Durations(None)
        self.stop = stop

    def say(self, text: str) -> None:
        """Write what begins now; on a terminal, later lines overwrite it."""
        if self._enabled:
            self._file.write(f"\r\033[K{text} …" if self._file.isatty() else f"{text} …\n")
            self._file.flush()

    def run(self, what: str, function: Callable[[], Any], *, key: str = "") -> Any:
        """Call a function in another thread and return its result.

        Args:
            what: what is being done, in words: "compiling the training step".
            function: the function; its exceptions are raised here.
            key: its key among the durations; "" is not recorded.

        Raises:
            Interrupted: `stop` returned a signal; the thread is abandoned, see `leave_at_once`.
        """
        last = self._durations.last(key) if key else None
        before = f" ({last:.0f} s the last time)" if last is not None else ""
        self.say(f"{what}{before}")
        began, told, result = time.monotonic(), 0.0, {}

        def work() -> None:
            try:
                result["value"] = function()
            except BaseException as error:  # It is raised in the other thread.
                result["error"] = error
            finally:
                done.set()

        done = threading.Event()
        thread = threading.Thread(target=work, name=what, daemon=True)
        pace = 1.0 if self._file.isatty() else self._every
        try:
            thread.start()
            while not done.wait(_TURN):
                seconds = time.monotonic() - began
                if seconds - told >= pace:
                    told = seconds
                    self.say(f"{what}{before}: {seconds:.0f} s")
                signal = self.stop()
                if signal is not None:
                    raise Interrupted(signal)
        except BaseException:
            _abandoned.append(thread)
            self._end("")
            raise
        seconds = time.monotonic() - began
        self._end(f"{what}: done in {seconds:.0f} s" if seconds >= 1 else "")
        if "error" in result:
            raise result["error"]
        self._durations.note(key, seconds)
        return result["value"]

    def first(
        self, what: str, function: Callable[..., Any], *, key: str = ""
    ) -> Callable[..., Any]:
        """Wrap a function so that its first call, which compiles, goes through `run`."""
        compiled = False

        def call(*arguments: Any) -> Any:
            nonlocal compiled
            if compiled:
                return function(*arguments)
            result = self.run(what, lambda: function(*arguments), key=key)
            compiled = True
            return result

        return call

    def end(self) -> None:
        """Clear the line on a terminal, for other output."""
        self._end("")

    def _end(self, text: str) -> None:
        if not self._enabled:
            return
        if self._file.isatty():
            self._file.write("\r\033[K")
        self._file.write(f"{text}\n" if text else "")
        self._file.flush()


def leave_at_once(status: int) -> None:
    """End the process with a status if threads were abandoned: a normal exit would wait for them.

    Everything must be saved and closed by then.
    """
    if any(thread.is_alive() for thread in _abandoned):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def compile_durations() -> Durations:
    """Return the durations of compilation, kept next to the compilation cache if there is one."""
    folder = jax.config.jax_compilation_cache_dir
    return Durations(Path(folder) / "seconds.json" if folder else None)


def waits_on_terminal() -> Waits:
    """Return waits that print only on a terminal, for commands whose output is their results."""
    return Waits(enabled=sys.stderr.isatty(), durations=compile_durations())


def program_key(**facts: Any) -> str:
    """Return a short key for a compiled program, from all that its compilation time depends on."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
