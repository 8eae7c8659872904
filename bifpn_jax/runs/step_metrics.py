"""The metrics of steps that the training loop has not logged yet."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from bifpn_jax.errors import UserError
from bifpn_jax.train import exchange
from bifpn_jax.train.step import SKIP

# After this many consecutive skipped steps, a run will not recover.
MAX_SKIPPED_IN_A_ROW = 10


class StepMetrics:
    """Metrics of steps on their way from the devices to the log.

    A step is read only when the next one has been started, so that the devices need not wait.
    """

    def __init__(
        self,
        nonfinite: str,
        say: Callable[[str], None],
        *,
        recent: Sequence[Mapping[str, float]] = (),
        skipped_steps: int = 0,
        skipped_in_a_row: int = 0,
    ) -> None:
        """Start empty, or with the saved `state` of a resumed run.

        Args:
            nonfinite: "error" stops a run at a non-finite loss or gradient; "skip" reports it and
                continues, provided that the training step has kept its state.
            say: called with a line about a skipped step.
            recent: metrics of the steps since the last log.
            skipped_steps: number of steps skipped so far.
            skipped_in_a_row: number of consecutive steps skipped just before.
        """
        self._skip, self._say = nonfinite == SKIP, say
        self._recent = list(recent)
        self._in_a_row, self.skipped_steps = skipped_in_a_row, skipped_steps
        self._unfetched: tuple[int, Any, np.ndarray] | None = None

    def add(self, step: int, on_device: Any, image_ids: np.ndarray) -> None:
        """Add the metrics of a step that has been started, and fetch those of the one before.

        Args:
            step: number of the step.
            on_device: its metrics.
            image_ids: image ids of this process's part of the batch.

        Raises:
            UserError: the fetched metrics are not finite, and that is an error.
        """
        self.fetch()
        self._unfetched = (step, on_device, image_ids)

    def fetch(self) -> None:
        """Wait for the last step; raise as `add` does."""
        if self._unfetched is None:
            return
        (step, on_device, image_ids), self._unfetched = self._unfetched, None
        values = {name: float(value) for name, value in jax.device_get(on_device).items()}
        if np.isfinite([values["loss"], values["gradient_norm"]]).all():
            self._recent.append(values)
            self._in_a_row = 0
            return
        ids = sorted(map(int, exchange.gather_rows(image_ids.tolist())))
        what = (
            f"step {step}: loss {values['loss']}, gradient norm {values['gradient_norm']} at "
            f"learning rate {values['learning_rate']:.3g}, on the images with ids "
            f"{', '.join(map(str, ids))}"
        )
        self._in_a_row += 1
        self.skipped_steps += 1
        if not self._skip:
            raise UserError(
                f"{what}. The saved state is from before: look at these images, skip such "
                "steps by config.train.nonfinite=skip, or start in another workdir with a "
                "lower config.schedule.base_rate."
            )
        if self._in_a_row > MAX_SKIPPED_IN_A_ROW:
            raise UserError(
                f"{what}; the {MAX_SKIPPED_IN_A_ROW} steps before were like it, so the run has "
                "diverged: start in another workdir with a lower config.schedule.base_rate."
            )
        self._say(f"{what}: this step changes nothing")

    def take_means(self) -> dict[str, float]:
        """Return means since the last log, and the last learning rate; empty without steps."""
        recent, self._recent = self._recent, []
        if not recent:
            return {}
        means = {name: float(np.mean([values[name] for values in recent])) for name in recent[0]}
        return means | {"learning_rate": recent[-1]["learning_rate"]}

    def state(self) -> dict[str, Any]:
        """Return what a resumed run starts from, as JSON; everything must have been fetched."""
        return {
            "recent": self._recent,
            "skipped_steps": self.skipped_steps,
            "skipped_in_a_row": self._in_a_row,
        }
