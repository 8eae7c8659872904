"""What a run reports during training: the progress line, the log, and metrics over the steps."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from signal import Signals
from typing import Any, Self

import jax
import numpy as np

from bifpn_jax.models.fusion import edge_weights
from bifpn_jax.models.networks import network_graph
from bifpn_jax.runs.evaluating import score_line
from bifpn_jax.runs.logs import MetricWriter, write_finished
from bifpn_jax.runs.progress import Timer, format_seconds
from bifpn_jax.runs.run import Run
from bifpn_jax.runs.step_metrics import StepMetrics
from bifpn_jax.train import exchange


class Reporter:
    """Collects the metrics of every step, and logs their means and the scores of evaluations.

    It is a context that closes its files at the end. Every process has one, and the first one
    writes.
    """

    def __init__(self, run: Run) -> None:
        """Start the clock, and continue with what the run has not logged yet."""
        config, model, saved = run.config, run.model, run.unlogged
        self._run = run
        self._timer = Timer(
            batch_size=config.train.batch_size,
            total_steps=run.length.total_steps,
            **saved["timer"],
        )
        self._writer = MetricWriter(run.workdir, first_step=run.first_step, enabled=run.is_primary)
        self._steps = StepMetrics(config.train.nonfinite, run.line.write, **saved["steps"])
        self._dropped_boxes, self._dropped_here = saved["dropped_boxes"], 0
        graph = network_graph(model.feature_network, model.min_level, model.max_level)
        self._fusion_weights = jax.jit(partial(edge_weights, graph=graph, fusion=model.fusion))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def add(self, step: int, on_device: Any, host_batch: Mapping[str, np.ndarray]) -> None:
        """Add a step that has been started.

        Args:
            step: its number.
            on_device: its metrics.
            host_batch: the fields of this process's part of the batch that stayed on the host.

        Raises:
            UserError: the loss or the gradient of the step before is not finite.
        """
        self._dropped_here += int(host_batch["dropped_boxes"].sum())
        self._run.bad_images.note(host_batch)
        self._steps.add(step, on_device, host_batch["image_id"])
        if step == self._run.first_step + 1:  # It compiled, so it does not count for the speed.
            jax.block_until_ready(on_device)
            self._timer.start(step)

    def wait_for_steps(self) -> None:
        """Wait for the devices, and add up over the processes, all of which must call it.

        Raises:
            UserError: the loss or the gradient of the last step is not finite.
        """
        self._steps.fetch()
        self._dropped_boxes += exchange.add_up(self._dropped_here)
        self._dropped_here = 0
        self._run.bad_images.share()

    def log(self, step: int) -> None:
        """Write the means since the last log, the speed, and the weights of the fusion."""
        speed = self._timer.measure(step)
        means = self._steps.take_means()
        self._run.line.update(step, means.get("loss", math.nan), speed)
        values = {f"train/{name}": value for name, value in means.items()} | {
            "train/epoch": step / self._run.length.steps_per_epoch,
            "train/images_per_second": speed.images_per_second,
            "train/seconds": speed.training_seconds,
            "train/dropped_boxes": self._dropped_boxes,
            "train/skipped_steps": self._steps.skipped_steps,
        }
        self._writer.write(step, values)
        weights = self._fusion_weights(self._run.state.params["feature_network"])
        self._writer.write_fusion_weights(step, jax.device_get(weights))

    def log_evaluation(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Write the scores of an evaluation."""
        self._run.line.write(score_line(self._run.config, step, metrics))
        scores = {k: v for k, v in metrics.items() if isinstance(v, int | float)}
        self._writer.write(step, {f"eval/{name}": score for name, score in scores.items()})

    def clock_stopped(self) -> AbstractContextManager[None]:
        """Context whose time does not count as training."""
        return self._timer.pause()

    def unlogged(self) -> dict[str, Any]:
        """Return what a resumed run starts from, as JSON; call `wait_for_steps` first."""
        return {
            "timer": self._timer.state(),
            "dropped_boxes": self._dropped_boxes,
            "steps": self._steps.state(),
            "replaced_images": self._run.bad_images.replaced,
        }

    def end(self, step: int, stopping: Signals | None) -> None:
        """Report how the run ended, and mark it as finished unless a signal stopped it.

        Args:
            step: the last step.
            stopping: the signal that stopped it there, with the step saved, or None.
        """
        run, say = self._run, self._run.line.write
        run.line.close()
        if self._steps.skipped_steps:
            say(
                f"{self._steps.skipped_steps} steps had no finite loss and gradient and changed "
                "nothing"
            )
        if run.is_primary:
            run.bad_images.write(run.workdir)
        if run.bad_images.summary():
            say(run.bad_images.summary())
        if stopping is not None:
            say(f"{stopping.name}: saved step {step}; the same command continues there")
            return
        if run.is_primary:
            write_finished(run.workdir, step=step, seconds=self._timer.seconds)
        say(f"trained for {format_seconds(self._timer.seconds)}; results are in {run.workdir}")
