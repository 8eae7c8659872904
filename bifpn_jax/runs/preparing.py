"""Everything before the first step of a run, so that errors are found before training."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ml_collections import ConfigDict

from bifpn_jax.data.records import Source
from bifpn_jax.models.initial_values import variable_shapes
from bifpn_jax.recipe import building
from bifpn_jax.recipe.checks import check_config
from bifpn_jax.runs.compile_keys import training_key
from bifpn_jax.runs.evaluating import ask_for_best_metric, make_evaluation
from bifpn_jax.runs.interruption import Interrupted, StopAtOnce
from bifpn_jax.runs.introduction import introduce
from bifpn_jax.runs.logs import remove_finished, write_config, write_parameter_overview
from bifpn_jax.runs.progress import ProgressLine
from bifpn_jax.runs.resuming import describe_run, go_on, restore_target, start_anew
from bifpn_jax.runs.run import Run
from bifpn_jax.runs.skipped_images import SkippedImages
from bifpn_jax.runs.starting_weights import with_settings_of_weights
from bifpn_jax.runs.waiting import Waits, compile_durations
from bifpn_jax.runs.workdir_lock import check_shared, lock_workdir
from bifpn_jax.train import devices, exchange
from bifpn_jax.train.checkpoints import Checkpoints


@contextmanager
def prepare(config: ConfigDict, workdir: Path, *, trust_code: bool = False) -> Iterator[Run]:
    """Context of a run that is ready for its next step, in a workdir that it has locked.

    Until the loop begins, Ctrl-C and SIGTERM end it at once.

    Args:
        config: config of the run.
        workdir: its folder, created if necessary; a run that it contains is resumed.
        trust_code: whether code that weights or the workdir name may be run.

    Raises:
        UserError: an error that the user can fix.
        Interrupted: there was a signal.
    """
    several = devices.process_count() > 1
    try:
        with ExitStack() as locks, StopAtOnce(common=several) as stop_at_once:
            yield _prepare(config, workdir, locks, stop_at_once, trust_code)
    except Interrupted as interrupted:
        if len(interrupted.args) == 1:
            said = f"{interrupted.args[0].name}: stopped before a step was made; nothing is lost"
            print(f"{said}, and the same command goes on", file=sys.stderr)
        raise


def _prepare(
    config: ConfigDict,
    workdir: Path,
    locks: ExitStack,
    stop_at_once: StopAtOnce,
    trust_code: bool,
) -> Run:
    check_config(config)
    building.check_devices(config)
    is_primary = devices.process_index() == 0
    say = print if is_primary else lambda _: None
    waits = Waits(enabled=is_primary and config.log.progress, durations=compile_durations())
    config, train_data, eval_data = _open_data(config, workdir, waits, say, trust_code)
    ask_for_best_metric(config, eval_data)
    bad_images = SkippedImages(train_data, eval_data)
    length = building.run_length(config, len(train_data))

    model = building.model(config, train_data.label_map, axis_name=devices.AXIS)
    schedule = building.schedule(config, length)
    optimizer = building.optimizer(config, schedule, variable_shapes(model)["params"])
    step = building.training_step(config, model, optimizer, schedule)
    train_step = devices.map_train_step(step)
    evaluate_state = make_evaluation(config, model, eval_data, bad_images.note_evaluation, waits)

    _take_workdir(workdir, locks)
    batches = building.training_batches(
        config,
        model,
        train_data,
        shard_index=devices.process_index(),
        shard_count=devices.process_count(),
    )
    checkpoints = Checkpoints(
        workdir,
        keep_latest=config.checkpoint.keep_latest,
        best_metric=config.checkpoint.best_metric,
    )
    meta = describe_run(config, length, train_data)
    if checkpoints.latest_step is None:
        waits.say("making the initial values")
        position = batches.get_state()
        start = start_anew(config, model, optimizer, train_data, meta, position, say)
    else:
        waits.say("reading the checkpoint")
        target = restore_target(model, optimizer)
        start = go_on(config, length, train_data, meta, checkpoints, target, workdir)
        batches.set_state(start.position)
    bad_images.note_replaced(start.unlogged["replaced_images"])
    run = Run(
        config=config,
        workdir=workdir,
        length=length,
        model=model,
        train_data=train_data,
        eval_data=eval_data,
        batches=batches,
        train_step=waits.first("compiling the training step", train_step, key=training_key(config)),
        evaluate_state=evaluate_state,
        checkpoints=checkpoints,
        meta=start.meta,
        state=start.state,
        position=start.position,
        first_step=start.step,
        unlogged=start.unlogged,
        bad_images=bad_images,
        line=ProgressLine(length.total_steps, enabled=is_primary and config.log.progress),
        is_primary=is_primary,
        _waits=waits,
        _stop_at_once=stop_at_once,
    )
    if is_primary:
        _write_beginning(run)
    waits.end()
    introduce(run, bad_images.summary(), start.change)
    return run


def _open_data(
    config: ConfigDict,
    workdir: Path,
    waits: Waits,
    say: Callable[[str], object],
    trust_code: bool,
) -> tuple[ConfigDict, Source, Source]:
    """Return the config with the settings of its weights, and the data; process 0 goes first."""
    with exchange.together(), exchange.primary_first():
        config = with_settings_of_weights(config, workdir, say, trust_code=trust_code)
        waits.say("reading the data")
        return config, *building.sources(config)


def _take_workdir(workdir: Path, locks: ExitStack) -> None:
    """Lock the workdir for all processes, until the end of `locks`."""
    is_primary = devices.process_index() == 0
    with exchange.together():
        holder = locks.enter_context(lock_workdir(workdir)) if is_primary else ""
    holder = exchange.from_primary(lambda: holder)
    with exchange.together():
        if not is_primary:
            check_shared(workdir, holder)


def _write_beginning(run: Run) -> None:
    """Write the files that are in the workdir before the first step."""
    if not run.is_complete:
        remove_finished(run.workdir)
        write_config(run.workdir, run.meta["config"])
    write_parameter_overview(run.workdir, run.state.params)
    run.bad_images.write(run.workdir)
