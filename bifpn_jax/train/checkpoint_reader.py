"""Reading checkpoints: whole ones into a run, or weights and meta alone, for prediction.

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
    """Meta of a checkpoint: the config, the label map and whatever else the run saved there.

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
    """Variables {"params": …, "batch_stats": …} as numpy arrays, without knowing the model.

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
    """Folder of a checkpoint: of a step, "latest", "best", or None for best else latest."""
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
    """Whether there is a checkpoint that a run could go on from."""
    return bool(_steps(Path(workdir).absolute() / FOLDER / "latest"))


def _steps(folder: Path) -> list[int]:
    """Steps below a folder, the one it is kept for (newest or best) last."""
    if not folder.is_dir():
        return []
    best_fn = (lambda metrics: next(iter(metrics.values()))) if folder.name == "best" else None
    options = ocp.CheckpointManagerOptions(create=False, best_fn=best_fn)
    with ocp.CheckpointManager(folder, options=options) as manager:
        return sorted(manager.all_steps(), key=lambda step: (step == manager.best_step(), step))


def as_target(tree: Any) -> Any:
    """Tree of `jax.ShapeDtypeStruct`s that say the shape, type and sharding of each array."""

    def describe(leaf: Any) -> jax.ShapeDtypeStruct:
        if getattr(leaf, "sharding", None) is None:
            raise ValueError(f"every leaf of a target needs a sharding, this one has none: {leaf}")
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)

    return jax.tree.map(describe, tree)


def read_state(path: Path, target: Any) -> Any:
    """State of the checkpoint in a folder, for a target made by `as_target`.

    Raises UserError if it does not fit the target; a damaged one raises nearly anything.
    """
    with _opened(ocp.StandardCheckpointHandler()) as handler:
        _check_fit(path, handler.metadata(path / "state").tree, target)
        return handler.restore(path / "state", args=ocp.args.StandardRestore(target))


def read_json(path: Path, *items: str) -> list[dict]:
    """The named JSON items of the checkpoint in a folder."""
    with _opened(ocp.JsonCheckpointHandler()) as handler:
        return [handler.restore(path / item) for item in items]


@contextmanager
def _opened(handler: Any) -> Iterator[Any]:
    """The handler; closed, and quiet about the reads that a first failing one leaves behind.

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
    """Raises a UserError that names the first array that differs between file and target."""
    here, there = _arrays(target), _arrays(saved)
    for name in dict.fromkeys([*here, *there]):
        if here.get(name) != there.get(name):
            raise UserError(
                f"{path}: {name} is {there.get(name, 'absent')} in the checkpoint and "
                f"{here.get(name, 'absent')} in this run; use the model, label map and optimizer "
                "of the checkpoint, or another workdir"
            )


def _arrays(tree: Any) -> dict[str, str]:
    """Path -> "float32 (3, 3, 64, 810)" of every array of a tree."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype} {tuple(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def first_line(error: Exception) -> str:
    """Type and beginning of the message of an error of orbax, which can have a thousand lines."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:200]}"


def no_checkpoint(workdir: Path) -> UserError:
    """The error for a workdir without a checkpoint."""
    return UserError(
        f"{workdir}: no checkpoint below {FOLDER}/; name the workdir of a training run that has "
        "saved one"
    )


def damaged(path: Path, error: Exception) -> UserError:
    """The error for a checkpoint that cannot be read."""
    return UserError(
        f"{path}: the checkpoint is damaged ({first_line(error)}); move it away to use another "
        "one, or start again in another workdir"
    )
