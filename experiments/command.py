"""What all commands share: the config flag, and errors as one line instead of a traceback."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from bifpn_jax.errors import UserError

FAILED = 2


def define_config_flag() -> None:
    """Defines ``--config=FILE[:ARG]``, required, with its ``--config.x.y=VALUE`` overrides."""
    config_flags.DEFINE_config_file("config", None, "A file in configs/.", lock_config=True)
    flags.mark_flag_as_required("config")


def run(main: Callable[[list[str]], int | None], *, arguments: bool = False) -> None:
    """Parses the flags and runs `main` with the words that are no flags, if it takes any.

    Its return value is the exit status.
    Compiled programs are kept in ``~/.cache/bifpn_jax`` for the next run, unless the environment
    variable JAX_COMPILATION_CACHE_DIR names another place.
    """
    logging.set_verbosity(logging.WARNING)
    logging.get_absl_handler().addFilter(lambda record: "orbax" not in record.pathname)
    # XLA's C++ logs go around Python's logging; errors stay.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    cache = Path.home() / ".cache" / "bifpn_jax"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    app.run(lambda argv: sys.exit(_call(main, argv[1:], arguments)), flags_parser=_parse)


def _call(main: Callable[[list[str]], int | None], words: list[str], arguments: bool) -> int | None:
    if words and not arguments:
        fail(f"unexpected argument {words[0]!r}; options are written --name=value.")
    try:
        return main(words)
    except UserError as error:
        fail(error)


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
    except UserError as error:
        fail(error)
    except FileNotFoundError as error:
        fail(f"--config: {error.filename} does not exist; the configs are in configs/.")
    except flags.UnrecognizedFlagError as error:
        hint = f"; did you mean --{error.suggestions[0]}?" if error.suggestions else ""
        fail(f"--{error.flagname} is not a flag of this command{hint or '; see --help.'}")
    except flags.Error as error:
        fail(" ".join(str(error).split()))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # What ml_collections raises for an override that does not fit the config.
        fail(" ".join(str(error.args[0] if error.args else error).split()))
    return rest


def fail(message: object) -> NoReturn:
    """Prints one line and exits."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(FAILED)
