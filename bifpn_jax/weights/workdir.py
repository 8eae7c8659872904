"""The weights in the workdir of a training run, with all that is known about them."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bifpn_jax.errors import UserError
from bifpn_jax.json_files import read_json
from bifpn_jax.train.checkpoint_reader import (
    find_checkpoint,
    first_line,
    read_weights,
    restore_meta,
)
from bifpn_jax.weights.naming.own import CONFIG_FILE, flat_names, not_said

# Groups of fields that a resumed run may change, and on which no weights depend.
_CURRENT = ("data", "eval")


class Checkpoint(NamedTuple):
    """One checkpoint of a run.

    Attributes:
        entries: {name: array} of its averaged or raw weights.
        metadata: "config" and "label_map" as JSON; the config has the run's current data and
            evaluation settings, which may be newer than the checkpoint.
        label: "step 800, best checkpoint, averaged weights".
        step: the number of updates made.
    """

    entries: dict[str, np.ndarray]
    metadata: dict[str, str]
    label: str
    step: int


def read_workdir(path: Path, step: int | str | None = None, *, ema: bool = True) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: the workdir.
        step: a step, "latest" or "best"; None for the best if there is one, else the latest.
        ema: whether to read the averaged weights, or the raw ones.

    Raises:
        UserError: there is no such checkpoint, or it is damaged.
    """
    folder = find_checkpoint(path.absolute(), step)
    number = int(folder.name)
    meta = restore_meta(path, number)
    try:
        config, label_map = dict(meta["config"]), meta["label_map"]
    except (KeyError, TypeError, ValueError) as error:
        raise not_said(str(folder), first_line(error)) from error
    config |= _current_settings(path, config)
    which = f"step {number}, {folder.parent.name} checkpoint"
    return Checkpoint(
        entries=flat_names(read_weights(path, number, ema=ema)),
        metadata={"config": json.dumps(config), "label_map": json.dumps(label_map)},
        label=f"{which}, {'averaged' if ema else 'raw'} weights",
        step=number,
    )


def _current_settings(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return the groups of `_CURRENT` with which the run was last started."""
    file = path / CONFIG_FILE
    if not file.exists():
        return {}
    current = read_json(file)
    if not isinstance(current, dict):
        raise UserError(f"{file} does not hold the config of a run; remove it or restore it.")
    return {
        group: {**config[group], **current[group]}
        for group in _CURRENT
        if isinstance(config.get(group), dict) and isinstance(current.get(group), dict)
    }
