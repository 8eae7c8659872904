"""Runs a command in this process, as `bifpn` or `python -m` would: a start takes seconds."""

import io
import re
import runpy
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from absl import flags, logging

from bifpn_jax.command_line import command, process_memory
from bifpn_jax.commands import bifpn, evaluate, predict
from bifpn_jax.runs import loop

# Imported before any run, because grain and TFDS define flags of their own, which must stay.
_COMMANDS = (evaluate, predict, loop)

ROOT = Path(__file__).resolve().parents[1]


class Ended(NamedTuple):
    """How a command ended: exit status, stdout and stderr."""

    status: int
    out: str
    err: str


def run_command(name: str, *words: object, folder: Path = ROOT) -> Ended:
    """Runs ``bifpn NAME WORDS``, or ``python -m experiments.NAME WORDS``; in the repository, or in
    another folder.
    """
    out, err = io.StringIO(), io.StringIO()
    before = {key: _copy(value) for key, value in flags.FLAGS.__dict__.items()}
    verbosity = logging.get_verbosity()
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(out),
        redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        # As Python has it by default: ml_collections loads configs in a way that will go away.
        warnings.simplefilter("ignore", DeprecationWarning)
        patch.chdir(folder)
        patch.setattr(sys, "argv", [name, *map(str, words)])
        # absl would set up logging and memory for the whole process.
        patch.setattr(command.app, "run", lambda main, flags_parser: main(flags_parser(sys.argv)))
        patch.setattr(command, "keep_freed_memory", lambda: None)
        patch.setattr(process_memory, "restart_with_huge_pages", lambda: None)
        patch.setenv("JAX_COMPILATION_CACHE_DIR", "")
        try:
            if name in bifpn.COMMANDS:
                bifpn.run(name, list(map(str, words)))
            else:
                file = ROOT / "experiments" / f"{name.replace('.', '/')}.py"
                runpy.run_path(str(file), run_name="__main__")
            status = 0
        except SystemExit as ended:
            status = ended.code or 0
        finally:
            flags.FLAGS.__dict__.clear()
            flags.FLAGS.__dict__.update(before)
            logging.set_verbosity(verbosity)
    return Ended(status, out.getvalue(), err.getvalue())


def assert_refused(ended: Ended, *patterns: str) -> None:
    """Status 2 and one line on stderr, in which all patterns are found."""
    assert ended.status == 2, ended
    lines = ended.err.splitlines()
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in lines[0]
    for pattern in patterns:
        assert re.search(pattern, lines[0]), f"{pattern!r} is not in {lines[0]!r}"


def _copy(value: Any) -> Any:
    """A dict of lists with both copied: the flags and whose they are."""
    if not isinstance(value, dict):
        return value
    return {key: list(item) if isinstance(item, list) else item for key, item in value.items()}
