"""Reads checkpoints: complete ones to resume a run, or only weights and meta for prediction.

The layout is that of `bifpn_jax.train.checkpoints`.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from bifpn_jax.errors import UserError

FOLDER = "checkpoints"
EARLIER_BEST = "earlier_best"


def restore_meta(workdir: str | Path, step: int | str | None = None) -> dict:
    """Read the meta of a checkpoint: the config, the label map and other facts about the run.

    Args:
        workdir: folder of a run.
        step: a step, "latest" or "best"; None for the best if there is one, else the latest.
    """
    path = find_checkpoint(Path(workdir).absolute(), step)
    try:
        return read_json(path, "meta")[0]
    except Exception as error:
        raise damaged(path, error) from error


def read_weights(
    workdir: str | Path, step: int | str | None = None, *, ema: bool = True
) -> dict[str, Any]:
    """Read the variables {"params": …, "batch_stats": …} as numpy arrays, without the model.

    Args:
        workdir: folder of a run.
        step: a step, "latest" or "best"; None for the best if there is one, else the latest.
        ema: whether to read the averaged weights (state fields ``ema_params``,
            ``ema_batch_stats``) or the raw ones (``params``, ``batch_stats``).
    """
    path = find_checkpoint(Path(workdir).absolute(), step)
    fields = {name: f"ema_{name}" if ema else name for name in ("params", "batch_stats")}
    try:
        with _opened(ocp.PyTreeCheckpointHandler()) as handler:
            tree = handler.metadata(path / "state").tree
            wanted = {field: tree.get(field) or {} for field in fields.values()}
            if not wanted[fields["params"]]:
                kinds = ("averaged", "raw") if ema else ("raw", "averaged")
                raise UserError(
                    f"{path}: no {kinds[0]} weights here; read the {kinds[1]} ones (ema={not ema})"
                )
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
            restored = handler.restore(
                path / "state",
                args=ocp.args.PyTreeRestore(wanted, restore_args=as_numpy, partial_restore=True),
            )
    except UserError:
        raise
    except Exception as error:
        raise damaged(path, error) from error
    return {name: restored[field] for name, field in fields.items()}


def find_checkpoint(workdir: Path, step: int | str | None) -> Path:
    """Find the folder of a checkpoint: a step, "latest", "best", or None for best else latest."""
    folders = {name: workdir / FOLDER / name for name in ("latest", "best")}
    kept = {name: _steps(folder) for name, folder in folders.items()}
    if not any(kept.values()):
        raise no_checkpoint(workdir)
    if step is None:
        step = "best" if kept["best"] else "latest"
    for name, steps in kept.items():
        if step == name and steps:
            return folders[name] / str(steps[-1])
        if step in steps:
            return folders[name] / str(step)
    earlier = workdir / FOLDER / EARLIER_BEST / str(step)
    if isinstance(step, int) and earlier.is_dir():
        return earlier
    there = ", ".join(f"{name}: {steps or 'none'}" for name, steps in kept.items())
    raise UserError(f"{workdir / FOLDER}: no checkpoint {step}; there are {there}")


def has_checkpoint(workdir: str | Path) -> bool:
    """Whether there is a checkpoint to resume from."""
    return bool(_steps(Path(workdir).absolute() / FOLDER / "latest"))


def _steps(folder: Path) -> list[int]:
    """Return the steps in a folder, the one that the folder is for (newest or best) last."""
    if not folder.is_dir():
        return []
    best_fn = (lambda metrics: next(iter(metrics.values()))) if folder.name == "best" else None
    options = ocp.CheckpointManagerOptions(create=False, best_fn=best_fn)
    with ocp.CheckpointManager(folder, options=options) as manager:
        return sorted(manager.all_steps(), key=lambda step: (step == manager.best_step(), step))


def as_target(tree: Any) -> Any:
    """Return a tree of `jax.ShapeDtypeStruct`s with the shape, type and sharding of each array."""

    def describe(leaf: Any) -> jax.ShapeDtypeStruct:
        if getattr(leaf, "sharding", None) is None:
            raise ValueError(f"every leaf of a target needs a sharding, this one has none: {leaf}")
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)

    return jax.tree.map(describe, tree)


def read_state(path: Path, target: Any) -> Any:
    """Read the state of the checkpoint in a folder.

    Args:
        path: the folder.
        target: the expected state, from `as_target`.

    Raises:
        UserError: the checkpoint does not fit the target.
        Exception: of nearly any type, if the checkpoint is damaged.
    """
    with _opened(ocp.StandardCheckpointHandler()) as handler:
        _check_fit(path, handler.metadata(path / "state").tree, target)
        return handler.restore(path / "state", args=ocp.args.StandardRestore(target))


def read_json(path: Path, *items: str) -> list[dict]:
    """Read the named JSON items of the checkpoint in a folder."""
    with _opened(ocp.JsonCheckpointHandler()) as handler:
        return [handler.restore(path / item) for item in items]


@contextmanager
def _opened(handler: Any) -> Iterator[Any]:
    """Yield the handler, close it, and silence the reads that are pending after a failed one.

    Each of those would print a traceback from a thread, thousands for a real model.
    """
    previous = sys.unraisablehook
    last_abandoned = 0.0

    def without_abandoned_reads(event: Any) -> None:
        nonlocal last_abandoned
        if str(event.exc_value) == "Event loop is closed":
            last_abandoned = time.monotonic()
        else:
            previous(event)

    sys.unraisablehook = without_abandoned_reads
    try:
        yield handler
    except Exception:
        last_abandoned = time.monotonic()
        while time.monotonic() - last_abandoned < 0.3:
            time.sleep(0.05)
        raise
    finally:
        sys.unraisablehook = previous
        handler.close()


def _check_fit(path: Path, saved: Any, target: Any) -> None:
    """Raise a UserError that names the first array that differs between file and target."""
    here, there = _arrays(target), _arrays(saved)
    for name in dict.fromkeys([*here, *there]):
        if here.get(name) != there.get(name):
            raise UserError(
                f"{path}: {name} is {there.get(name, 'absent')} in the checkpoint and "
                f"{here.get(name, 'absent')} in this run; use the model, label map and optimizer "
                "of the checkpoint, or another workdir"
            )


def _arrays(tree: Any) -> dict[str, str]:
    """Return path -> "float32 (3, 3, 64, 810)" of every array of a tree."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype} {tuple(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def first_line(error: Exception) -> str:
    """Return the type and first line of an orbax error, whose message can have 1,000 lines."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:200]}"


def no_checkpoint(workdir: Path) -> UserError:
    """Return the error for a workdir without a checkpoint."""
    return UserError(
        f"{workdir}: no checkpoint below {FOLDER}/; name the workdir of a training run that has "
        "saved one"
    )


def damaged(path: Path, error: Exception) -> UserError:
    """Return the error for a checkpoint that cannot be read."""
    return UserError(
        f"{path}: the checkpoint is damaged ({first_line(error)}); move it away to use another "
        "one, or start again in another workdir"
    )
