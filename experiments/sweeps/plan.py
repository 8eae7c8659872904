"""The plan of a sweep: the rows of a study, and a run with its command line per row and seed.

A study is a config file with a second function in addition to `get_config`:

    def sweep(arg: str | None = None) -> dict[str, dict[str, Any]]:
        return {"softmax": {"model.fusion": "softmax"}, "fast": {"model.fusion": "fast"}}

Each row has a name, which becomes a folder, and the fields of the config that it sets.
"""

import copy
import difflib
import inspect
import re
import runpy
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from bifpn_jax.command_line.network_file import inline_network_file
from bifpn_jax.command_line.overrides import check_overrides, explain_value
from bifpn_jax.errors import UserError
from bifpn_jax.recipe import by_name
from bifpn_jax.recipe.checks import check_config

_PYTHON = "python" if shutil.which("python") == sys.executable else sys.executable
PROGRAM = (_PYTHON, "-m", "experiments.main")

Rows = dict[str, dict[str, Any]]


class Study(NamedTuple):
    """A study as given by a config file and a command line.

    Attributes:
        file: the value of --config, FILE or FILE:ARG.
        config: the base of all rows, with the command line's overrides.
        overrides: these overrides by field.
        rows: the fields that each row sets.
    """

    file: str
    config: ConfigDict
    overrides: Mapping[str, Any]
    rows: Rows

    @property
    def override_flags(self) -> list[str]:
        """Return the overrides as words of a command line."""
        return [config_flag(field, value) for field, value in self.overrides.items()]


class Run(NamedTuple):
    """One cell of the grid.

    Attributes:
        row: name of its row.
        seed: seed of its weights and of the order of its data.
        workdir: its folder.
        config: its config.
        command: the words of its command line.
    """

    row: str
    seed: int
    workdir: Path
    config: ConfigDict
    command: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.row} seed {self.seed}"


def read_rows(file: str) -> Rows:
    """Return the rows of a study.

    Args:
        file: FILE or FILE:ARG of a config that can be loaded.

    Raises:
        UserError: it has no `sweep`, or its rows cannot be used.
    """
    path, colon, arg = file.partition(":")
    sweep = runpy.run_path(path).get("sweep")
    arguments = (arg,) if colon else ()
    try:
        inspect.signature(sweep).bind(*arguments)
    except TypeError:
        # A recipe's name was replaced by a file, and nobody typed that.
        typed = file.removeprefix(f"{by_name.__file__}:")
        raise UserError(
            f"--config={typed} is not a study: it has no "
            f"sweep({'text' if colon and typed == file else ''}); take "
            "--config=configs/ablations/fusion.py or another file of that folder, or train this "
            f"config by itself, bifpn train --config={typed}."
        ) from None
    rows = sweep(*arguments)
    if not isinstance(rows, Mapping) or not rows:
        raise UserError(f"{path}: sweep() must return rows, {{name: {{field: value}}}}.")
    for name, fields in rows.items():
        if not re.fullmatch(r"\w[\w.+-]*", str(name)):
            raise UserError(
                f"{path}: the row {name!r} is to be a folder; name it with letters, digits and _."
            )
        if not isinstance(fields, Mapping):
            raise UserError(f"{path}: the row {name} must be {{field: value}}, it is {fields!r}.")
        if "seed" in fields:
            raise UserError(f"{path}: the row {name} sets seed; the sweep does, by --seeds.")
    return {name: dict(fields) for name, fields in rows.items()}


def choose_rows(rows: Rows, names: Sequence[str]) -> list[str]:
    """Return the names in the order of the study, or all rows if none are given.

    Raises:
        UserError: an unknown name.
    """
    for name in names:
        if name not in rows:
            near = difflib.get_close_matches(name, rows, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(rows)}."
            raise UserError(f"--rows: this study has no row {name!r}; {hint}")
    return [name for name in rows if name in names or not names]


def parse_seeds(words: Sequence[str]) -> list[int]:
    """Parse the seeds on the command line."""
    text = ",".join(words)
    if not words or not all(re.fullmatch(r"\s*[0-9]{1,10}\s*", word) for word in words):
        raise UserError(f"--seeds={text}: give whole numbers, such as 0,1,2.")
    seeds = [int(word) for word in words]
    if len(set(seeds)) != len(seeds):
        raise UserError(f"--seeds={text}: a seed is there twice; give each once.")
    return seeds


def plan_runs(
    study: Study,
    workdir: Path,
    *,
    seeds: Sequence[int],
    rows: Sequence[str] = (),
    program: Sequence[str] = PROGRAM,
    words: Sequence[str] = (),
) -> list[Run]:
    """Return all runs of a grid in the order of running; every config is checked.

    All rows run with the first seed before any runs with the second, so a stopped sweep gives a
    table with fewer seeds, not with fewer rows.

    Args:
        study: the grid.
        workdir: folder of the sweep; a run's is ROW/seed_N in it.
        seeds: seeds of each row.
        rows: names of rows; empty for all.
        program: the training command; it takes the flags of `experiments.main`.
        words: flags to add to each command.

    Raises:
        UserError: a row's config does not work, or the command line sets what a row sets.
    """
    if "seed" in study.overrides:
        raise UserError("--config.seed: the sweep sets it; choose the seeds with --seeds=0,1,2.")
    names = choose_rows(study.rows, rows)
    for name in names:
        _check_no_override(study, name)
    runs = []
    for seed in seeds:
        for name in names:
            fields = {"seed": seed, **study.rows[name]}
            where = workdir / name / f"seed_{seed}"
            row_flags = [config_flag(field, value) for field, value in fields.items()]
            own = (f"--config={study.file}", f"--workdir={where}", *row_flags)
            command = (*program, *own, *study.override_flags, *words)
            try:
                config = _row_config(study, fields, row_flags)
                check_config(config)
            except UserError as error:
                raise UserError(f"row {name} of {study.file}: {error}") from error
            runs.append(Run(name, seed, where, config, command))
    return runs


def config_flag(field: str, value: Any) -> str:
    """Return ``--config.FIELD=VALUE`` in the form that ml_collections reads back."""
    if isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, str):
        text = value
    elif isinstance(value, list):
        text = repr(tuple(value))
    elif isinstance(value, ConfigDict):
        text = repr(value.to_dict())
    else:
        text = repr(value)
    return f"--config.{field}={text}"


def _check_no_override(study: Study, row: str) -> None:
    for override in study.overrides:
        for field in study.rows[row]:
            if f"{field}.".startswith(f"{override}.") or f"{override}.".startswith(f"{field}."):
                raise UserError(
                    f"--config.{override}: the row {row} sets config.{field}, so the rows would "
                    "not be what they are called; leave it out, or choose other rows with --rows."
                )


def _row_config(study: Study, fields: Mapping[str, Any], row_flags: Sequence[str]) -> ConfigDict:
    """Return the config of a run, read from its command line by the same parser as in the run."""
    known = check_overrides([f"--config={study.file}", *row_flags])
    argv = ["sweep", *row_flags]
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict(
            "config", copy.deepcopy(study.config), flag_values=values, sys_argv=argv
        )
        values(argv)
    except flags.IllegalFlagValueError as error:
        raise UserError(explain_value(str(error), known)) from error
    except flags.Error as error:
        raise UserError(" ".join(str(error).split())) from error
    config = values["config"].value
    for field, value in fields.items():
        read = config_flags.config_flags.GetValue(field, config)
        if _plain(read) != _plain(value):
            raise UserError(
                f"config.{field}={value!r} would be read as {read!r}; give the row a value of the "
                f"field's own type, such as {known[field]!r}."
            )
    inline_network_file(config)
    return config


def _plain(value: Any) -> Any:
    if isinstance(value, ConfigDict):
        value = value.to_dict()
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_plain(inner) for inner in value)
    return value
