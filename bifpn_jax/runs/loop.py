"""The training loop with evaluation, meant to be read and copied.

`train_and_evaluate(config, workdir)` does a complete run. It writes config.json, parameters.txt,
metrics.jsonl, fusion_weights.jsonl, TensorBoard events and checkpoints to the workdir, as well as
metrics.json and detections.json of the last evaluation, and at the end finished.json. Called again
with the same workdir, it resumes the run.

`preparing` and `resuming` do what comes before the first step; `reporting` does the logging.
"""

from contextlib import closing
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from bifpn_jax.runs.finishing import finish_again
from bifpn_jax.runs.interruption import Interrupted
from bifpn_jax.runs.preparing import prepare
from bifpn_jax.runs.reporting import Reporter
from bifpn_jax.train import devices
from bifpn_jax.train.gradients import TRAIN_FIELDS


def train_and_evaluate(
    config: ConfigDict, workdir: str | Path, *, trust_code: bool = False
) -> dict[str, Any]:
    """Train, evaluate and checkpoint according to the config; all processes must call it.

    Args:
        config: from a file in `configs/`, or `bifpn_jax.recipe.base.get_config`.
        workdir: folder of the run; a run that it contains is resumed.
        trust_code: whether code in files that other people's weights name may be run; code that
            the config names is always run.

    Returns:
        The metrics of the last evaluation.

    Raises:
        UserError: an error that the user can fix, raised before training starts if possible.
        Interrupted: after SIGINT or SIGTERM, with everything saved; holds the signal, and the
            saved step if anything new was saved.
    """
    with prepare(config, Path(workdir), trust_code=trust_code) as run:
        if run.is_complete:
            return finish_again(run)

        config, length = run.config, run.length
        eval_every = length.steps(config.eval.every_epochs)
        save_every = length.steps(config.checkpoint.every_epochs)
        batches = devices.prefetch(run.batches, TRAIN_FIELDS)
        report = Reporter(run)
        with closing(run.checkpoints), report, run.stops_between_steps() as stop:
            for step in range(run.first_step + 1, length.total_steps + 1):
                batch, host_batch, run.position = next(batches)
                run.state, step_metrics = run.train_step(run.state, batch)
                report.add(step, step_metrics, host_batch)

                stopping = stop.after(step)
                last = step == length.total_steps
                log_now = step % config.log.every_steps == 0 or last
                eval_now = (step % eval_every == 0 or last) and stopping is None
                save_now = step % save_every == 0 or eval_now or stopping is not None
                if log_now or save_now:
                    report.wait_for_steps()
                if log_now:
                    report.log(step)
                metrics = None
                if eval_now:
                    try:
                        with report.clock_stopped():
                            metrics = run.evaluate()
                    except Interrupted as interrupted:  # The step is still saved.
                        stopping = interrupted.args[0]
                    else:
                        report.log_evaluation(step, metrics)
                if save_now:
                    with report.clock_stopped():
                        run.save(step, report.unlogged(), metrics)
                if stopping is not None:
                    break
        report.end(step, stopping)
        if stopping is not None:
            raise Interrupted(stopping, step)
        return metrics
