"""Training with evaluation: the loop, to be read and copied.

`train_and_evaluate(config, workdir)` is all of a run. In the workdir it leaves config.json,
parameters.txt, metrics.jsonl, fusion_weights.jsonl, TensorBoard events, checkpoints, from the last
evaluation metrics.json and detections.json, and at the end finished.json. Started again with the
same workdir it goes on where it was.

What comes before the first step is in `preparing` and `resuming`, what is logged in `reporting`.
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
    """Trains, evaluates and checkpoints as the config says; of several processes all call it.

    Args:
        config: from a file in `configs/`, or `bifpn_jax.recipe.base.get_config`.
        workdir: folder of the run; a run that is in it is resumed.
        trust_code: whether code in files that other people's weights name may be run; that which
            the config names is.

    Returns:
        The metrics of the last evaluation.

    Raises:
        UserError: something the user can put right, before training starts where it can be known.
        Interrupted: after SIGINT or SIGTERM, with everything saved; holds the signal, and the step
            that was saved if there is more to save than there was.
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
                    except Interrupted as interrupted:  # The step is saved nevertheless.
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
