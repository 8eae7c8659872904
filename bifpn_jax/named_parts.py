"""Parts of a model chosen by name, or by the place of user code, `FILE.py:NAME`.

Code is run only after `trust_code` was called with exactly its name: a config that somebody else
wrote can name a file, and reading the config must not run that file.
"""

import contextlib
import difflib
import functools
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from bifpn_jax.errors import UserError

_trusted: set[str] = set()


class Parts(dict):
    """The parts of one kind by name, which cannot be extended: other processes would not know."""

    def __init__(self, what: str, parts: Mapping[str, Any]) -> None:
        """Take the word for a part in messages, and the parts."""
        super().__init__(parts)
        self.what = what

    def __setitem__(self, name: str, part: Any) -> NoReturn:
        """Refuse, because a trained model would name a part that cannot be found again."""
        raise UserError(
            f"{self.what} {name!r}: named parts cannot be extended, as no other command would "
            f"find the new one; set {self.what}=FILE.py:NAME, in Python the function itself."
        )

    def find(self, name: Any) -> Any:
        """Return the part for a name or a place of code, or `name` itself if it is not a string.

        Raises:
            UserError: there is no such part, or the code cannot be used.
        """
        if not isinstance(name, str):
            return name
        if name in self:
            return self[name]
        if is_code(name):
            return load_code(name)
        raise unknown(self.what, name, self)


def call_with_known(part: Callable[..., Any], settings: Mapping[str, Any], **always: Any) -> Any:
    """Call a part with those of the settings that it takes as keyword arguments.

    So a custom part lists only the settings that it needs.
    """
    return bind_known(part, settings)(**always)


def bind_known(part: Callable[..., Any], settings: Mapping[str, Any]) -> Callable[..., Any]:
    """Bind those of the settings that a part takes as keyword arguments."""
    return functools.partial(part, **{k: v for k, v in settings.items() if takes(part, k)})


def takes(part: Callable[..., Any], setting: str) -> bool:
    """Whether a part takes a setting as a keyword argument."""
    return setting in inspect.signature(part).parameters


def unknown(what: str, name: Any, choices: Any) -> UserError:
    """Return the error for a name that is not among the choices."""
    near = difflib.get_close_matches(str(name), list(choices), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(choices)}."
    return UserError(f"unknown {what} {name!r}: {hint}")


@contextlib.contextmanager
def reported(part: str, where: str = "") -> Iterator[None]:
    """Turn what user code raises into an error of one line that names the part and the place.

    Args:
        part: the part, such as "metric my_metric.py:counted".
        where: what it fails on, such as the name of an image.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        on = f" on {where}" if where else ""
        raise UserError(f"{part} fails{on}: {failure(error)}; correct it there.") from error


def failure(error: BaseException) -> str:
    """An error of a user's code in one line, with its place: "KeyError: 'x' (mine.py, line 3)"."""
    said = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, SyntaxError):  # says its place itself
        return said
    frames = traceback.extract_tb(error.__traceback__)
    # The user's own line, and not that of a library which it calls.
    libraries = (sys.prefix, sys.base_prefix, "<")
    own = [frame for frame in frames if not frame.filename.startswith(libraries)]
    place = (own or frames)[-1]
    return f"{said} ({place.filename}, line {place.lineno})"


def is_code(name: Any) -> bool:
    """Whether a value is a place of code: `FILE.py:NAME` or `package.module:NAME`."""
    pattern = r"(?s:.+)\.py:[A-Za-z_]\w*|[A-Za-z_][\w.]*:[A-Za-z_]\w*"
    return isinstance(name, str) and re.fullmatch(pattern, name) is not None


def code_names(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (name of the setting, place of code) of all settings that name code.

    Settings may be in groups, and one setting may be a list of names, or names joined by commas.
    """
    for key, value in settings.items():
        if hasattr(value, "items"):
            yield from ((f"{key}.{name}", place) for name, place in code_names(value))
        elif is_code(value):
            yield key, value
        else:
            names = value.split(",") if isinstance(value, str) else value
            if isinstance(names, list | tuple):
                yield from ((key, name.strip()) for name in names if is_code(name))


def trust_code(name: str) -> None:
    """Allow this process to run the code at a place, such as "my_fusion.py:squared"."""
    _trusted.add(name)


def trust_all(settings: Mapping[str, Any]) -> None:
    """Trust all the code that settings name."""
    for _, name in code_names(settings):
        trust_code(name)


def is_trusted(name: str) -> bool:
    """Whether the code at a place may be run."""
    return name in _trusted


def load_code(name: str) -> Any:
    """Return the function or class at a place, such as "my_fusion.py:squared"; run the file once.

    Raises:
        UserError: the code is not trusted, there is no such file or name, or the file fails.
    """
    if name not in _trusted:
        raise UserError(
            f"{name} is code in a file, which is not run without consent: read it, and if you "
            "trust it, set trust_code=True, or call bifpn_jax.trust_code with this name first."
        )
    place, _, attribute = name.rpartition(":")
    module = _run_file(Path(place).expanduser().absolute()) if place.endswith(".py") else None
    try:
        module = module or importlib.import_module(place)
    except ImportError as error:
        raise UserError(f"{name}: cannot import {place} ({error}).") from error
    except (Exception, SystemExit) as error:
        raise UserError(f"{place} does not run: {failure(error)}") from error
    if not hasattr(module, attribute):
        names = [n for n in vars(module) if not n.startswith("_")]
        near = difflib.get_close_matches(attribute, names, n=1)
        hint = f"did you mean {near[0]}?" if near else "correct the name."
        raise UserError(f"{name}: there is no {attribute} in {place}; {hint}")
    return getattr(module, attribute)


@functools.cache
def _run_file(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: no such file of code; correct the path, or go to its folder.")
    # Not the file's own name, which may be that of another module: csv.py may import csv.
    name = f"{path.parent}/{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    # Dataclasses, and so flax modules, look up their defining module there.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(f"{path} does not run: {failure(error)}") from error
    return module
