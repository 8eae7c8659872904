"""Passes the runs of a sweep to a launcher: a script in launch/ with a comment "# Launcher:".

A launcher takes a run's command line and runs it: local.sh and multi_gpu.sh immediately and here,
so the sweep waits for it, the others elsewhere and later.
"""

import difflib
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from bifpn_jax.errors import UserError
from experiments.sweeps.folder import forget_finished
from experiments.sweeps.plan import Run
from experiments.sweeps.running import Failure, describe_end, last_line

LAUNCHERS = Path("launch")
FOREGROUND = ("", "local", "multi_gpu")

_MARK = "# Launcher:"


def find_launcher(name: str, folder: Path = LAUNCHERS) -> list[str]:
    """Return the words to put before a command: the launcher's script; none without a launcher.

    Raises:
        UserError: there is no such launcher, or it cannot be executed.
    """
    if not name:
        return []
    names = [
        script.stem
        for script in sorted(folder.glob("*.sh"))
        if _MARK in script.read_text(encoding="utf-8", errors="replace")
    ]
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names) or 'none'}."
        raise UserError(f"--launcher={name}: {folder}/ has no such launcher; {hint}")
    script = folder / f"{name}.sh"
    if not os.access(script, os.X_OK):
        raise UserError(f"--launcher={name}: {script} is not executable; chmod +x {script}")
    return [str(script)]


def submit_all(
    runs: Sequence[Run], *, before: Sequence[str], lock: int, say: Callable[[str], None] = print
) -> list[Failure]:
    """Pass each run that is not finished to a launcher, and report what the launcher printed.

    Args:
        runs: the runs, in the order of submission.
        before: words before each command: the launcher.
        lock: file descriptor that a launcher inherits.
        say: called with each line to report.

    Returns:
        The runs that could not be submitted.
    """
    failures = []
    for run in runs:
        run.workdir.mkdir(parents=True, exist_ok=True)
        forget_finished(run)
        result = subprocess.run(
            [*before, *run.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(lock,),
            text=True,
        )
        if result.returncode == 0:
            say(f"{run}: {last_line(result.stdout) or 'submitted'}")
        else:
            reason = describe_end(result.returncode, last_line(result.stdout))
            failures.append(Failure(run, reason))
            say(f"not submitted: {run}: {reason}")
    return failures
