"""Training with evaluation, from top to bottom.

`train_and_evaluate(config, workdir)` is all of it. In the workdir it leaves config.json,
parameters.txt, metrics.jsonl, fusion_weights.jsonl, TensorBoard events, checkpoints, from the last
evaluation metrics.json and detections.json, and at the end finished.json. Started again with the
same workdir it goes on where it was.
"""

import json
import math
import sys
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from bifpn_jax.models.fusion import edge_weights
from bifpn_jax.models.initial_values import variable_shapes
from bifpn_jax.models.networks import network_graph
from bifpn_jax.train import exchange, devices
from bifpn_jax.train.checkpoints import Checkpoints
from bifpn_jax.train.gradients import TRAIN_FIELDS
from bifpn_jax.runs.interruption import Interrupted, StopAtOnce, StopRequest
from bifpn_jax.runs.logs import (
    MetricWriter,
    remove_finished,
    write_config,
    write_finished,
    write_parameter_overview,
)
from bifpn_jax.runs.progress import ProgressLine, Timer, format_seconds
from bifpn_jax.train.state import create_state
from bifpn_jax.runs.waiting import Waits, compile_durations
from bifpn_jax.runs.workdir_lock import check_shared, lock_workdir
from bifpn_jax.recipe import building
from bifpn_jax.runs.compile_keys import training_key
from bifpn_jax.recipe.checks import check_config, check_same_run
from bifpn_jax.runs.starting_weights import initial_variables, with_settings_of_weights
from bifpn_jax.runs.evaluating import (
    comparable,
    earlier_evaluation,
    make_evaluation,
    measure_best_again,
    score_line,
)
from bifpn_jax.runs.history import (
    length_before,
    schedule_change,
    training_fingerprint,
    with_length_of,
)
from bifpn_jax.runs.introduction import introduce
from bifpn_jax.runs.skipped_images import SkippedImages
from bifpn_jax.runs.step_metrics import StepMetrics


def train_and_evaluate(config: ConfigDict, workdir: str | Path) -> dict[str, Any]:
    """Trains, evaluates and checkpoints as the config says; of several processes all call it.

    Args:
        config: from a file in `configs/`.
        workdir: folder of the run; a run that is in it is resumed.

    Returns:
        The metrics of the last evaluation.

    Raises:
        UserError: something the user can put right, before training starts where it can be known.
        Interrupted: after SIGINT or SIGTERM, with everything saved; holds the signal, and the step
            that was saved if there is more to save than there was.
    """
    several = devices.process_count() > 1
    try:
        with ExitStack() as leaving, StopAtOnce(common=several) as preparing:
            return _train_and_evaluate(config, Path(workdir), leaving, preparing)
    except Interrupted as interrupted:
        if len(interrupted.args) == 1:
            said = f"{interrupted.args[0].name}: stopped before a step was made; nothing is lost"
            print(f"{said}, and the same command goes on", file=sys.stderr)
        raise


def _train_and_evaluate(
    config: ConfigDict, workdir: Path, leaving: ExitStack, preparing: StopAtOnce
) -> dict[str, Any]:
    # --- Config and data: everything that can be wrong is found out before anything is computed.
    check_config(config)
    rows = devices.check_batch_size(config.train.batch_size, config.train.accumulate)
    devices.check_batch_norm_group(config.model.batch_norm_group)
    is_primary = devices.process_index() == 0
    say = print if is_primary else lambda _: None
    waits = Waits(enabled=is_primary and config.log.progress, durations=compile_durations())
    with exchange.together(), exchange.primary_first():
        config = with_settings_of_weights(config, workdir, say)
        waits.say("reading the data")
        train_source, eval_source = building.sources(config)
    bad_images = SkippedImages(train_source, eval_source)
    label_map = train_source.label_map
    length = building.run_length(config, len(train_source))

    # --- Model, optimizer and the compiled step.
    model = building.model(config, label_map, axis_name=devices.AXIS)
    graph = network_graph(model.feature_network, model.min_level, model.max_level)
    fusion_weights = jax.jit(partial(edge_weights, graph=graph, fusion=model.fusion))
    schedule = building.schedule(config, length)
    shapes = variable_shapes(model)
    optimizer = building.optimizer(config, schedule, shapes["params"])
    step_fn = devices.map_train_step(building.training_step(config, model, optimizer, schedule))
    evaluate_state = make_evaluation(config, model, eval_source, bad_images.note_evaluation, waits)

    # --- The state: from this workdir's newest checkpoint, or new.
    with exchange.together():
        holder = leaving.enter_context(lock_workdir(workdir)) if is_primary else ""
    holder = exchange.from_primary(lambda: holder)
    with exchange.together():
        if not is_primary:
            check_shared(workdir, holder)
    iterator = building.training_batches(
        config,
        model,
        train_source,
        shard_index=devices.process_index(),
        shard_count=devices.process_count(),
    )
    checkpoints = Checkpoints(
        workdir,
        keep_latest=config.checkpoint.keep_latest,
        best_metric=config.checkpoint.best_metric,
    )
    meta = {"config": json.loads(config.to_json()), "label_map": label_map.to_json()}
    meta["left_out"] = sorted(image.image_id for image in train_source.left_out)
    meta |= {"length": list(length), "train_data": training_fingerprint(train_source)}
    history = ""
    # What the loop counts and has not logged yet; a resumed run goes on with it.
    loop = {"timer": {}, "dropped_boxes": 0, "steps": {}, "replaced_images": []}
    if checkpoints.latest_step is None:
        waits.say("making the initial values")
        with exchange.together():
            variables = initial_variables(config, model, train_source, say=say)
        variables = exchange.same_everywhere(variables)
        state = devices.replicate(create_state(variables, optimizer))
        position, first_step = iterator.get_state(), 0
    else:
        waits.say("reading the checkpoint")
        new_state = jax.eval_shape(lambda variables: create_state(variables, optimizer), shapes)
        target = devices.replicated_shapes(new_state)
        state, position, saved = checkpoints.restore(
            target, check=lambda saved: check_same_run(meta, saved, workdir)
        )
        iterator.set_state(position)
        first_step, loop = int(state.step), saved["loop"]
        bad_images.note_replaced(loop["replaced_images"])
        history = schedule_change(config, length, saved, len(train_source), first_step)
        if first_step > length.total_steps:  # What is recorded is the run that was trained.
            meta["config"] = with_length_of(meta["config"], saved)
            meta["length"] = list(length_before(saved, len(train_source)))
    complete = first_step >= length.total_steps
    if is_primary:
        if not complete:
            remove_finished(workdir)
            write_config(workdir, meta["config"])
        write_parameter_overview(workdir, state.params)
        bad_images.write(workdir)

    # --- Say what will happen.
    waits.end()
    line = ProgressLine(length.total_steps, enabled=is_primary and config.log.progress)
    introduce(
        line.write,
        config,
        model,
        state.params,
        (train_source, eval_source),
        bad_images.summary(),
        history,
    )

    def save(step: int, metrics: dict[str, Any] | None) -> None:
        measured = comparable(metrics, config.checkpoint.best_metric) if metrics else ""
        checkpoints.save(step, state, position, {**meta, "loop": loop}, metrics, measured=measured)

    if complete:
        metrics, why = earlier_evaluation(workdir, first_step, config, eval_source)
        if is_primary:
            if metrics is None:  # What stands in the workdir does not belong together until then.
                remove_finished(workdir)
            write_config(workdir, meta["config"])
        if metrics is None:
            line.write(f"step {first_step} is evaluated now: {why}")
            if checkpoints.best_step not in (None, first_step):
                measure_best_again(config, checkpoints, target, evaluate_state, workdir, line.write)
            metrics = evaluate_state(state, workdir)
            line.write(score_line(config, first_step, metrics))
            save(first_step, metrics)
        checkpoints.close()
        if is_primary:
            bad_images.write(workdir)
            write_finished(workdir, step=first_step, seconds=loop["timer"].get("seconds", 0.0))
        line.write(f"this run is complete; its results are in {workdir}")
        line.close()
        return metrics

    line.write(
        f"steps {first_step} to {length.total_steps}, {rows} images each, on "
        f"{devices.device_count()} device(s); the first step compiles"
    )

    # --- The loop.
    eval_every = length.steps(config.eval.every_epochs)
    save_every = length.steps(config.checkpoint.every_epochs)
    batches = devices.prefetch(iterator, TRAIN_FIELDS)
    timer = Timer(
        batch_size=config.train.batch_size, total_steps=length.total_steps, **loop["timer"]
    )
    writer = MetricWriter(workdir, first_step=first_step, enabled=is_primary)
    steps = StepMetrics(config.train.nonfinite, line.write, **loop["steps"])
    dropped_boxes, dropped_here = loop["dropped_boxes"], 0
    metrics: dict[str, Any] | None = None
    several = devices.process_count() > 1
    preparing.end()
    with closing(checkpoints), writer, StopRequest(common=several) as stop:
        waits.stop = lambda: None if several else stop.signal
        first_step_fn = waits.first(
            "compiling the training step", step_fn, key=training_key(config)
        )
        for step in range(first_step + 1, length.total_steps + 1):
            batch, host, position = next(batches)
            state, on_device = (first_step_fn if step == first_step + 1 else step_fn)(state, batch)
            dropped_here += int(host["dropped_boxes"].sum())
            bad_images.note(host)
            steps.add(step, on_device, host["image_id"])
            if step == first_step + 1:
                jax.block_until_ready(on_device)
                timer.start(step)

            stopping = stop.after(step)
            last = step == length.total_steps
            log_now = step % config.log.every_steps == 0 or last
            eval_now = (step % eval_every == 0 or last) and stopping is None
            save_now = step % save_every == 0 or eval_now or stopping is not None
            if log_now or save_now:
                steps.fetch()
                dropped_boxes += exchange.add_up(dropped_here)
                dropped_here = 0
                bad_images.share()
            if log_now:
                speed = timer.measure(step)
                means = steps.take_means()
                line.update(step, means.get("loss", math.nan), speed)
                values = {f"train/{name}": value for name, value in means.items()} | {
                    "train/epoch": step / length.steps_per_epoch,
                    "train/images_per_second": speed.images_per_second,
                    "train/seconds": speed.training_seconds,
                    "train/dropped_boxes": dropped_boxes,
                    "train/skipped_steps": steps.skipped_steps,
                }
                writer.write(step, values)
                weights = fusion_weights(state.params["feature_network"])
                writer.write_fusion_weights(step, jax.device_get(weights))
            metrics = None
            if eval_now:
                try:
                    with timer.pause():
                        metrics = evaluate_state(state, workdir)
                except Interrupted as interrupted:  # The step is saved, as without an evaluation.
                    stopping = interrupted.args[0]
            if metrics is not None:
                line.write(score_line(config, step, metrics))
                scores = {k: v for k, v in metrics.items() if isinstance(v, int | float)}
                writer.write(step, {f"eval/{name}": score for name, score in scores.items()})
            if save_now:
                with timer.pause():
                    loop = {
                        "timer": timer.state(),
                        "dropped_boxes": dropped_boxes,
                        "steps": steps.state(),
                        "replaced_images": bad_images.replaced,
                    }
                    save(step, metrics)
            if stopping is not None:
                break
    line.close()
    if steps.skipped_steps:
        line.write(
            f"{steps.skipped_steps} steps had no finite loss and gradient and changed nothing"
        )
    if is_primary:
        bad_images.write(workdir)
    if bad_images.summary():
        line.write(bad_images.summary())
    if stopping is not None:
        line.write(f"{stopping.name}: saved step {step}; the same command goes on there")
        raise Interrupted(stopping, step)
    if is_primary:
        write_finished(workdir, step=length.total_steps, seconds=timer.seconds)
    line.write(f"trained for {format_seconds(timer.seconds)}; results are in {workdir}")
    return metrics
