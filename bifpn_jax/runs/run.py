"""A run as the training loop has it: all that is made once, and the state that every step changes.

`bifpn_jax.runs.preparing.prepare` makes it.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from bifpn_jax.data.records import Source
from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.recipe.building import RunLength
from bifpn_jax.runs.evaluating import comparable
from bifpn_jax.runs.interruption import StopAtOnce, StopRequest
from bifpn_jax.runs.progress import ProgressLine
from bifpn_jax.runs.skipped_images import SkippedImages
from bifpn_jax.runs.waiting import Waits
from bifpn_jax.train import devices
from bifpn_jax.train.checkpoints import Checkpoints
from bifpn_jax.train.state import TrainState


@dataclasses.dataclass(eq=False)
class Run:
    """A run whose workdir this process holds.

    Attributes:
        config: of the run, with the settings of the weights that it starts from.
        workdir: its folder.
        length: how many steps it makes, and how many are an epoch.
        model: the network.
        train_data: what it is trained on.
        eval_data: what it is evaluated on.
        batches: endless iterator of batches on the host; this process's share of each.
        train_step: (state, batch on the devices) -> (state, metrics); its first call compiles.
        evaluate_state: (state, workdir) -> metrics; writes the files of an evaluation.
        checkpoints: of the workdir.
        meta: what every checkpoint says of the run beside its state.
        state: parameters, statistics, averages, and what the optimizer keeps.
        position: of `batches`, after the batch of the last step.
        first_step: steps that were made before this start.
        unlogged: what the loop had counted and not logged when it was saved, see `Reporter`.
        bad_images: those that the run does without.
        line: where its progress is shown.
        is_primary: whether this process writes what there is one of.
    """

    config: ConfigDict
    workdir: Path
    length: RunLength
    model: EfficientDet
    train_data: Source
    eval_data: Source
    batches: Any
    train_step: Callable[[TrainState, Any], tuple[TrainState, Any]]
    evaluate_state: Callable[[TrainState, Path], dict[str, Any]]
    checkpoints: Checkpoints
    meta: dict[str, Any]
    state: TrainState
    position: Any
    first_step: int
    unlogged: dict[str, Any]
    bad_images: SkippedImages
    line: ProgressLine
    is_primary: bool
    _waits: Waits
    _stop_at_once: StopAtOnce

    @property
    def is_complete(self) -> bool:
        """Whether there is no step left to make."""
        return self.first_step >= self.length.total_steps

    @contextmanager
    def stops_between_steps(self) -> Iterator[StopRequest]:
        """Context in which Ctrl-C and SIGTERM wait for the end of a step, and end what compiles."""
        several = devices.process_count() > 1
        self._stop_at_once.end()
        with StopRequest(common=several) as stop:
            self._waits.stop = lambda: None if several else stop.signal
            yield stop

    def evaluate(self) -> dict[str, Any]:
        """Metrics of the state; the files of an evaluation are written.

        Raises:
            Interrupted: while it compiles; nothing is written.
        """
        return self.evaluate_state(self.state, self.workdir)

    def save(self, step: int, unlogged: dict[str, Any], metrics: dict[str, Any] | None) -> None:
        """Writes a checkpoint of the state.

        Args:
            step: updates made.
            unlogged: what a run that goes on has to know, beside the state.
            metrics: of an evaluation of this state, or None.
        """
        best_metric = self.config.checkpoint.best_metric
        measured = comparable(metrics, best_metric) if metrics else ""
        meta = {**self.meta, "loop": unlogged}
        self.checkpoints.save(step, self.state, self.position, meta, metrics, measured=measured)
