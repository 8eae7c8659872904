"""A complete run that is started again: not trained, and evaluated only if necessary."""

from typing import Any

from bifpn_jax.runs.evaluating import earlier_evaluation, measure_best_again, score_line
from bifpn_jax.runs.logs import remove_finished, write_config, write_finished
from bifpn_jax.runs.run import Run
from bifpn_jax.train import devices


def finish_again(run: Run) -> dict[str, Any]:
    """Return the metrics of a run that has no steps left.

    They are read from its workdir. If they are missing there, or are of other settings, data or
    weights, the run is evaluated now. Its best checkpoint is then evaluated as well, because it
    would no longer be comparable.
    """
    config, step, say = run.config, run.first_step, run.line.write
    metrics, why = earlier_evaluation(run.workdir, step, config, run.eval_data)
    if run.is_primary:
        if metrics is None:  # Until then the files in the workdir do not belong together.
            remove_finished(run.workdir)
        write_config(run.workdir, run.meta["config"])
    if metrics is None:
        say(f"step {step} is evaluated now: {why}")
        if run.checkpoints.best_step not in (None, step):
            target = devices.replicated_shapes(run.state)
            measure_best_again(
                config, run.checkpoints, target, run.evaluate_state, run.workdir, say
            )
        metrics = run.evaluate()
        say(score_line(config, step, metrics))
        run.save(step, run.unlogged, metrics)
    run.checkpoints.close()
    if run.is_primary:
        run.bad_images.write(run.workdir)
        seconds = run.unlogged["timer"].get("seconds", 0.0)
        write_finished(run.workdir, step=step, seconds=seconds)
    say(f"this run is complete; its results are in {run.workdir}")
    run.line.close()
    return metrics
