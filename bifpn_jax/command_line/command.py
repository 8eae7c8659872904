"""Shared by all commands: the config flag, help, and one-line errors instead of tracebacks."""

import difflib
import os
import re
import select
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from logging import Formatter
from pathlib import Path
from typing import NoReturn, TextIO

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from bifpn_jax.command_line.command_help import asks_for_help, command_help, own_flags
from bifpn_jax.command_line.command_values import check_values, explain_flag
from bifpn_jax.command_line.command_words import prepare_words
from bifpn_jax.command_line.disk_space import full_disk
from bifpn_jax.command_line.flag_names import flags_of_fields, flags_of_names, in_flags
from bifpn_jax.command_line.network_file import inline_network_file
from bifpn_jax.command_line.overrides import (
    check_overrides,
    config_file,
    explain_value,
    keep_last,
    nearest_fields,
    with_recipe_files,
)
from bifpn_jax.command_line.process_memory import collect_garbage_rarely, keep_freed_memory
from bifpn_jax.errors import UserError
from bifpn_jax.recipe import base
from bifpn_jax.runs.interruption import Interrupted
from bifpn_jax.runs.waiting import leave_at_once
from bifpn_jax.train import processes
from bifpn_jax.train.devices import check_devices

# Exit statuses. After SAVED and PEER_IS_GONE, the same command continues from what is saved.
FAILED = 2
SAVED = 75
PEER_IS_GONE = 76
STOPPED = 130  # by Ctrl-C with nothing to continue from, as in shells
PIPE_CLOSED = 141  # as for a program that SIGPIPE ended

_DEFAULT_CONFIG = "d0"  # for --help_config without --config

Main = Callable[[list[str]], int | None]


def define_config_flag() -> None:
    """Define ``--config=FILE[:WORDS]``, required, with its ``--config.x.y=VALUE`` overrides."""
    config_flags.DEFINE_config_file(
        "config",
        None,
        "A file, or the name of a recipe, and after a colon the words that it takes: "
        "configs/d0.py:debug, d0:debug, finetune:lite0. "
        "--config.train.batch_size=32 sets one of its fields.",
        lock_config=True,
    )
    flags.DEFINE_bool(
        "help_config",
        False,
        "List the fields of the config (of d0 if there is no --config) with their "
        "meaning, the values that they take and those that they have, and end.",
    )
    flags.mark_flag_as_required("config")


def run(main: Main, *, arguments: str = "", flag_names: Mapping[str, str] | None = None) -> None:
    """Parse the flags and run `main` with the positional arguments, if it takes any.

    Its return value is the exit status; an interrupted run that saved exits with `SAVED`. Compiled
    programs are cached in ``~/.cache/bifpn_jax``, unless the environment variable
    JAX_COMPILATION_CACHE_DIR names another folder. Memory is kept as in `process_memory`.

    Args:
        main: the command; the docstring of its module is its help.
        arguments: the name of the positional arguments, "IMAGE"; "" if there are none.
        flag_names: maps arguments of the library or config fields to the flags that set them,
            {"data.eval_images": "images"}. Messages name the flags.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # of `bifpn.run`
        signal.signal(signal.SIGINT, signal.default_int_handler)
    keep_freed_memory()
    collect_garbage_rarely()
    logging.set_verbosity(logging.WARNING)
    handler = logging.get_absl_handler()
    handler.addFilter(lambda record: "orbax" not in record.pathname)
    handler.setFormatter(Formatter("%(levelname)s: %(message)s"))
    # XLA's C++ logs bypass Python's logging; errors are still shown.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Setting the variable would be too late: jax is already imported and has read it.
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path.home() / ".cache" / "bifpn_jax"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    with _quiet_where_nobody_reads():
        app.run(
            lambda argv: sys.exit(_call(main, argv[1:], arguments, flag_names or {})),
            flags_parser=partial(_parse, main=main, arguments=arguments),
        )


@contextmanager
def _quiet_where_nobody_reads() -> Iterator[None]:
    """Context that ends the process as SIGPIPE would if its output is closed: ``… | head``."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        streams = [stream for stream in (sys.stdout, sys.stderr) if _is_closed_pipe(stream)]
        if not streams:
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in streams:  # What is left in its buffer is flushed at exit.
            os.dup2(nowhere, stream.fileno())
        processes.leave(PIPE_CLOSED)


def _is_closed_pipe(stream: TextIO) -> bool:
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _call(
    main: Main, words: list[str], arguments: str, flag_names: Mapping[str, str]
) -> int | None:
    if words and not arguments:
        meant = f"did you mean --{words[0]}?" if "=" in words[0] else ""
        fail(f"unexpected argument {words[0]!r}; {meant or 'options are written --name=value.'}")
    if not all(words):
        fail(f"one of the arguments is empty; leave it out, or give {arguments}.")
    try:
        return main(words)
    except Interrupted:
        leave_at_once(SAVED)
        return SAVED
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        leave_at_once(STOPPED)
        processes.leave(STOPPED)
    except UserError as error:
        fail(in_flags(str(error), _names(flag_names)))
    except Exception as error:
        if processes.peer_is_gone(error):
            line = next(iter(str(error).splitlines()), "")[:200]
            fail(f"another process of this run is gone ({line}).", PEER_IS_GONE)
        full = full_disk(error)
        if full is not None:
            fail(
                f"{full}: no space is left on this disk; free some and start the same command "
                "again. What was complete is intact, and a training run continues from there."
            )
        if not processes.several():
            try:
                check_devices()
            except UserError as reason:
                fail(reason)
            raise
        # A normal exit would wait for the others, which wait for this process.
        traceback.print_exc()
        processes.leave(1)


def _parse(argv: Sequence[str], *, main: Main, arguments: str) -> list[str]:
    if asks_for_help(argv[1:]):
        full = any("helpfull" in word for word in argv[1:])
        print(command_help(main.__globals__["__doc__"], arguments, full=full))
        processes.leave(0)
    fields = {}
    try:
        words = prepare_words(argv[1:])
        if "config" in flags.FLAGS:
            wanted = any(re.fullmatch("--?help_config(=true)?", word) for word in words)
            if wanted and not config_file(words):
                words = [f"--config={_DEFAULT_CONFIG}", *words]
            fields = check_overrides(words)
        rest = flags.FLAGS([argv[0], *with_recipe_files(keep_last(words))])
        check_values()
        if "config" in flags.FLAGS:
            if flags.FLAGS.help_config:
                _print_config_help(config_file(words))
                processes.leave(0)
            inline_network_file(flags.FLAGS.config)
        return rest
    except UserError as error:  # There may be no config yet; all have the same fields.
        has_config = "config" in flags.FLAGS
        fail(in_flags(str(error), flags_of_fields(base.get_config("d0")) if has_config else {}))
    except flags.UnrecognizedFlagError as error:
        fail(f"--{error.flagname} is not a flag of this command; {_near(error.flagname, fields)}")
    except flags.IllegalFlagValueError as error:
        missing = re.match(r"flag (--\w+)=None: .* must have a value other than None", str(error))
        if missing:
            fail(f"{missing[1]}=… is missing; --help lists the flags.")
        fail(explain_flag(explain_value(str(error), fields)))
    except flags.Error as error:
        text = " ".join(str(error).split())
        without = re.match(r"Missing value for flag (\S+)", text)
        fail(f"{without[1]} has no value; write {without[1]}=…" if without else text)


def _names(flag_names: Mapping[str, str]) -> dict[str, str]:
    """Return the flags by their names in the library."""
    of_config = flags_of_fields(flags.FLAGS.config) if "config" in flags.FLAGS else {}
    return of_config | flags_of_names(flag_names)


def _near(name: str, fields: Mapping[str, object]) -> str:
    """Return a hint at what an unknown flag may mean."""
    own = [flag.name for flag in own_flags()]
    if near := difflib.get_close_matches(name.replace("-", "_"), own, 1):
        return f"did you mean --{near[0]}?"
    if fields:
        near = nearest_fields(name.removeprefix("config.").replace("-", "_"), fields)
        return near or "--help lists the flags, --help_config the fields of the config."
    if re.match(r"config\b", name) and "weights" in own:
        return "the model of --weights brings its config along. --help lists the flags."
    return "--help lists the flags."


def _print_config_help(file: str) -> None:
    from bifpn_jax.command_line.config_help import config_help

    width = min(100, shutil.get_terminal_size().columns)
    print(config_help(flags.FLAGS.config, file, width))


def make_folder(path: str | Path) -> Path:
    """Return the folder for the results, creating it if necessary, before anything is computed."""
    folder = Path(path).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--output={path}: cannot make this folder ({error.strerror}); name another one."
        ) from error
    return folder


def fail(message: object, status: int = FAILED) -> NoReturn:
    """Print one line and exits."""
    print(f"error: {message}", file=sys.stderr)
    processes.leave(status)
