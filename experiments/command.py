"""What all commands share: the config flag, and errors as one line instead of a traceback."""

import difflib
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from bifpn_jax.errors import UserError
from bifpn_jax.train import processes
from bifpn_jax.train.interruption import Interrupted
from bifpn_jax.train.waiting import leave_at_once
from experiments.disk_space import full_disk
from experiments.network_file import inline_network_file
from experiments.overrides import check_overrides, explain_value, keep_last
from experiments.process_memory import collect_garbage_rarely, keep_freed_memory

# Exit statuses. SAVED and PEER_IS_GONE: the same command goes on from what is saved.
FAILED = 2
SAVED = 75
PEER_IS_GONE = 76
STOPPED = 130  # by Ctrl-C where there is nothing to go on from, as shells have it


def define_config_flag() -> None:
    """Defines ``--config=FILE[:ARG]``, required, with its ``--config.x.y=VALUE`` overrides."""
    config_flags.DEFINE_config_file("config", None, "A file in configs/.", lock_config=True)
    flags.mark_flag_as_required("config")


def run(main: Callable[[list[str]], int | None], *, arguments: bool = False) -> None:
    """Parses the flags and runs `main` with the words that are no flags, if it takes any.

    Its return value is the exit status; an interrupted run that saved leaves with `SAVED`.
    Compiled programs are kept in ``~/.cache/bifpn_jax`` for the next run, unless the environment
    variable JAX_COMPILATION_CACHE_DIR names another place. Memory is kept as in `process_memory`.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # of `experiments/__init__.py`
        signal.signal(signal.SIGINT, signal.default_int_handler)
    keep_freed_memory()
    collect_garbage_rarely()
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_handler().addFilter(lambda record: "orbax" not in record.pathname)
    # XLA's C++ logs go around Python's logging; errors stay.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Not by setting the variable: jax is imported by now and has read it.
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path.home() / ".cache" / "bifpn_jax"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    _list_in_help()
    app.run(lambda argv: sys.exit(_call(main, argv[1:], arguments)), flags_parser=_parse)


def _list_in_help() -> None:
    """Makes --help list the flags that commands share; by itself it lists the command's own."""
    for module, shared in flags.FLAGS.flags_by_module_dict().items():
        if module.startswith("experiments."):
            for flag in shared:
                flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


def _call(main: Callable[[list[str]], int | None], words: list[str], arguments: bool) -> int | None:
    if words and not arguments:
        fail(f"unexpected argument {words[0]!r}; options are written --name=value.")
    try:
        return main(words)
    except Interrupted:
        leave_at_once(SAVED)
        return SAVED
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        leave_at_once(STOPPED)
        processes.leave(STOPPED)
    except UserError as error:
        fail(error)
    except Exception as error:
        if processes.peer_is_gone(error):
            line = next(iter(str(error).splitlines()), "")[:200]
            fail(f"another process of this run is gone ({line}).", PEER_IS_GONE)
        full = full_disk(error)
        if full is not None:
            fail(
                f"{full}: no space is left on this disk; free some and start the same command "
                "again. What was complete is intact, and a training run goes on from there."
            )
        if not processes.several():
            raise
        # A proper end would wait for the others, which wait for this process.
        traceback.print_exc()
        processes.leave(1)


def _parse(argv: Sequence[str]) -> list[str]:
    fields = {}
    try:
        if "config" in flags.FLAGS:
            fields = check_overrides(argv[1:])
        words = flags.FLAGS(keep_last(argv))
        if "config" in flags.FLAGS and flags.FLAGS.config is not None:
            inline_network_file(flags.FLAGS.config)
        return words
    except UserError as error:
        fail(error)
    except flags.UnrecognizedFlagError as error:
        known = [*flags.FLAGS, *(f"config.{field}" for field in fields)]
        near = difflib.get_close_matches(error.flagname, known, 1)
        hint = f"did you mean --{near[0]}?" if near else "--help lists the flags."
        fail(f"--{error.flagname} is not a flag of this command; {hint}")
    except flags.IllegalFlagValueError as error:
        missing = re.match(r"flag (--\w+)=None: .* must have a value other than None", str(error))
        if missing:
            fail(f"{missing[1]}=… is missing; --help lists the flags.")
        fail(explain_value(str(error), fields))
    except flags.Error as error:
        fail(" ".join(str(error).split()))


def make_folder(path: str | Path) -> Path:
    """The folder for the results, made if need be; called before anything is computed."""
    folder = Path(path).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--output={path}: cannot make this folder ({error.strerror}); name another one."
        ) from error
    return folder


def fail(message: object, status: int = FAILED) -> NoReturn:
    """Prints one line and exits."""
    print(f"error: {message}", file=sys.stderr)
    processes.leave(status)
