"""Checkpoints of a run, by orbax: the training state, the position in the data, and metadata.

In the workdir, ``checkpoints/latest/<step>`` are the newest ones and ``checkpoints/best/<step>``
copies of those with the best metric. Each has three items: ``state`` (any pytree of jax arrays),
``iterator`` and ``meta`` (both JSON). Meta contains the config and the label map, so that the
workdir is enough for prediction. A best checkpoint whose metric was measured differently from the
new ones, and so cannot be compared with them, is moved to ``checkpoints/earlier_best``.
"""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging

from bifpn_jax.errors import UserError
from bifpn_jax.train import devices, exchange
from bifpn_jax.train.checkpoint_reader import (
    EARLIER_BEST,
    FOLDER,
    as_target,
    damaged,
    find_checkpoint,
    first_line,
    no_checkpoint,
    read_json,
    read_state,
)


class Checkpoints:
    """Saves and restores the checkpoints of one run.

    Saving is asynchronous: `save` returns once the state is copied to the host, so its arrays may
    then be donated. A checkpoint gets its final name only when it is complete. If there are several
    processes, all make the same calls, on a shared folder.
    """

    def __init__(
        self,
        workdir: str | Path,
        *,
        keep_latest: int = 2,
        keep_best: int = 1,
        best_metric: str = "AP",
    ) -> None:
        """Open the folder ``checkpoints`` of `workdir`, creating it if necessary.

        Args:
            workdir: folder of the run.
            keep_latest: number of newest checkpoints to keep.
            keep_best: number of checkpoints with the highest metric to keep.
            best_metric: name of that metric; higher is better.
        """
        self._workdir = Path(workdir).absolute()
        self._keep_best = keep_best
        self._best_metric = best_metric
        self._measured = ""
        self._latest = self._open("latest", max_to_keep=keep_latest)
        self._best = self._open("best", max_to_keep=keep_best, best_fn=self._score)

    def save(
        self,
        step: int,
        state: Any,
        iterator_state: dict,
        meta: dict,
        metrics: dict[str, float] | None = None,
        *,
        measured: str = "",
        latest: bool = True,
    ) -> None:
        """Save a checkpoint, unless that step is already saved.

        Args:
            step: number of updates made.
            state: pytree of jax arrays.
            iterator_state: position in the data, as JSON (tuples come back as lists).
            meta: metadata of the run, as JSON.
            metrics: results of evaluating this state; with them it may be kept as the best.
            measured: what the metrics were measured with. Metrics are compared only if this is
                equal; best checkpoints with another value are moved away, with a warning.
            latest: False for an older state, which can only be the best.
        """
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(jax.tree.map(devices.one_copy, state)),
            iterator=ocp.args.JsonSave(iterator_state),
            meta=ocp.args.JsonSave(meta),
        )
        # Forced, because a run that resumed from an older step saves before the newest.
        if latest and step not in self._latest.all_steps():
            self._latest.save(step, args=items, force=True)
        if metrics is None:
            return
        self._measured = measured
        self._set_apart()
        # The first process decides, because its files are certain to be written.
        if exchange.from_primary(lambda: self._is_among_best(step, metrics)):
            # The score comes first: readers take the first entry for it.
            score = {self._best_metric: self._score(metrics), "measured": measured}
            self._best.save(step, args=items, metrics=score, force=True)

    def restore(
        self,
        target: Any,
        step: int | str | None = None,
        *,
        check: Callable[[dict], None] | None = None,
    ) -> tuple[Any, dict, dict]:
        """Return (state, iterator_state, meta) of a checkpoint.

        Args:
            target: tree of the state, with `jax.ShapeDtypeStruct`s that have a sharding, or arrays,
                as leaves. The restored arrays get those shardings.
            step: a step, "latest" or "best". None: the newest one that can be read; newer ones are
                reported and moved to ``checkpoints/unreadable``.
            check: called with the meta before the state is read; raises a UserError to reject the
                checkpoint.

        Raises:
            UserError: there is no such checkpoint, or it does not fit `target`.
        """
        self.wait()
        target = as_target(target)
        if step is None:
            steps = sorted(self._latest.all_steps(), reverse=True)
            paths = [self._workdir / FOLDER / "latest" / str(step) for step in steps]
        else:
            paths = [find_checkpoint(self._workdir, step)]
        unreadable = {}
        for path in paths:
            try:
                iterator_state, meta = read_json(path, "iterator", "meta")
                if check is not None:
                    check(meta)
                state = read_state(path, target)
            except UserError:
                raise
            except Exception as error:  # A damaged checkpoint makes orbax raise nearly anything.
                logging.warning("%s cannot be read: %s", path, first_line(error))
                unreadable[path] = error
            else:
                self._set_aside(list(unreadable))
                logging.info("restored %s", path)
                return state, iterator_state, meta
        if not unreadable:
            raise no_checkpoint(self._workdir)
        path, error = next(iter(unreadable.items()))
        raise damaged(path, error) from error

    @property
    def latest_step(self) -> int | None:
        """Returns the step of the newest checkpoint, or None."""
        return self._latest.latest_step()

    @property
    def best_step(self) -> int | None:
        """Returns the step of the checkpoint with the best metric, or None."""
        return self._best.best_step()

    def wait(self) -> None:
        """Wait until every file is written; raise any error of the background threads."""
        self._latest.wait_until_finished()
        self._best.wait_until_finished()

    def close(self) -> None:
        """Wait, then end the background threads."""
        self._latest.close()
        self._best.close()

    def _open(self, name: str, **options: Any) -> ocp.CheckpointManager:
        directory = self._workdir / FOLDER / name
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{directory}: cannot make this folder ({error.strerror}); choose another workdir"
            ) from error
        # Both folders may save the same step at the same time: processes that wait for each other
        # must not confuse them.
        apart = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix=name)
        return ocp.CheckpointManager(
            directory,
            options=ocp.CheckpointManagerOptions(
                cleanup_tmp_directories=True, multiprocessing_options=apart, **options
            ),
        )

    def _score(self, metrics: dict[str, float | None]) -> float:
        # Absent in checkpoints that were best by another metric: any with this metric beat them.
        # None where the evaluation data does not define it.
        score = metrics.get(self._best_metric)
        return float(score) if score is not None and math.isfinite(score) else -math.inf

    def _is_among_best(self, step: int, metrics: dict[str, float]) -> bool:
        if self._best_metric not in metrics:
            raise UserError(
                f"checkpoints: best_metric={self._best_metric!r} is not measured; use one of "
                f"{', '.join(metrics)}"
            )
        kept = self._best.all_steps()
        if step in kept or self._keep_best == 0:
            return False
        scores = [self._score(self._best.metrics(step)) for step in kept]
        return len(kept) < self._keep_best or self._score(metrics) > min(scores)

    def _set_apart(self) -> None:
        """Move away the best checkpoints whose metric cannot be compared with new ones."""
        self._best.wait_until_finished()  # The scores are read from the files.

        def incomparable() -> list[int]:
            scores = {step: self._best.metrics(step) or {} for step in self._best.all_steps()}
            return [s for s, score in scores.items() if score.get("measured", "") != self._measured]

        steps = exchange.from_primary(incomparable)
        if not steps:
            return
        if ocp.multihost.is_primary_host(0):
            for step in steps:
                shelf = self._workdir / FOLDER / EARLIER_BEST / str(step)
                _move(self._workdir / FOLDER / "best" / str(step), shelf)
                logging.warning(
                    "the best checkpoint until now, of step %d, was measured on other evaluation "
                    "data or with other settings and is not compared any more: moved to %s",
                    step,
                    shelf,
                )
        ocp.multihost.sync_global_processes("bifpn_jax:set_apart")
        self._best.reload()

    def _set_aside(self, paths: list[Path]) -> None:
        """Move damaged checkpoints away, because the run will save the same steps again."""
        if not paths:
            return
        if ocp.multihost.is_primary_host(0):
            for path in paths:
                shelf = self._workdir / FOLDER / "unreadable" / path.name
                _move(path, shelf)
                logging.warning("%s moved to %s; going on from an older one", path, shelf)
        ocp.multihost.sync_global_processes("bifpn_jax:set_aside")
        self._latest.reload()


def _move(path: Path, shelf: Path) -> None:
    """Move a checkpoint, replacing any that is already there."""
    shutil.rmtree(shelf, ignore_errors=True)
    shelf.parent.mkdir(exist_ok=True)
    shutil.move(path, shelf)
