"""A run in the training loop: its fixed parts, and the state that every step changes.

It is created by `bifpn_jax.runs.preparing.prepare`.
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
    """A run whose workdir this process has locked.

    Attributes:
        config: its config, with the settings of the weights that it starts from.
        workdir: its folder.
        length: its number of steps, and of steps per epoch.
        model: the network.
        train_data: the training data.
        eval_data: the evaluation data.
        batches: endless iterator of batches on the host, with this process's share of each.
        train_step: (state, batch on the devices) -> (state, metrics); its first call compiles.
        evaluate_state: (state, workdir) -> metrics; writes the files of an evaluation.
        checkpoints: checkpoints of the workdir.
        meta: what every checkpoint records about the run in addition to its state.
        state: parameters, statistics, averages and optimizer state.
        position: position of `batches` after the batch of the last step.
        first_step: number of steps made before this start.
        unlogged: what the loop had counted but not logged when it was saved, see `Reporter`.
        bad_images: the images that the run skips.
        line: the progress line.
        is_primary: whether this process writes the files.
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
        """Whether there are no steps left."""
        return self.first_step >= self.length.total_steps

    @contextmanager
    def stops_between_steps(self) -> Iterator[StopRequest]:
        """Context in which Ctrl-C and SIGTERM wait for the end of a step but end compilation."""
        several = devices.process_count() > 1
        self._stop_at_once.end()
        with StopRequest(common=several) as stop:
            self._waits.stop = lambda: None if several else stop.signal
            yield stop

    def evaluate(self) -> dict[str, Any]:
        """Evaluate the state, write the files of the evaluation and return the metrics.

        Raises:
            Interrupted: during compilation; nothing is written.
        """
        return self.evaluate_state(self.state, self.workdir)

    def save(self, step: int, unlogged: dict[str, Any], metrics: dict[str, Any] | None) -> None:
        """Write a checkpoint of the state.

        Args:
            step: number of updates made.
            unlogged: what a resumed run needs in addition to the state.
            metrics: metrics of an evaluation of this state, or None.
        """
        best_metric = self.config.checkpoint.best_metric
        measured = comparable(metrics, best_metric) if metrics else ""
        meta = {**self.meta, "loop": unlogged}
        self.checkpoints.save(step, self.state, self.position, meta, metrics, measured=measured)
