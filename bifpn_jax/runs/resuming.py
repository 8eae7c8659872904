"""The start of a run: from initial values, or from the newest checkpoint of its workdir."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax
from ml_collections import ConfigDict

from bifpn_jax.data.records import Source
from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.models.initial_values import variable_shapes
from bifpn_jax.recipe.building import RunLength
from bifpn_jax.recipe.checks import check_same_run
from bifpn_jax.runs.history import (
    length_before,
    schedule_change,
    training_fingerprint,
    with_length_of,
)
from bifpn_jax.runs.starting_weights import initial_variables
from bifpn_jax.train import devices, exchange
from bifpn_jax.train.checkpoints import Checkpoints
from bifpn_jax.train.state import TrainState, create_state


class Start(NamedTuple):
    """The start of a run.

    Attributes:
        state: the state, on the devices.
        position: the position in the batches.
        step: number of updates made so far.
        meta: what the checkpoints of the run record about it.
        unlogged: what the loop had counted but not logged when the state was saved.
        change: a line about a changed schedule, "" if it is unchanged.
    """

    state: TrainState
    position: Any
    step: int
    meta: dict[str, Any]
    unlogged: dict[str, Any]
    change: str = ""


def describe_run(config: ConfigDict, length: RunLength, train_data: Source) -> dict[str, Any]:
    """Return a checkpoint's record of its run, as JSON: what must not change, or is needed."""
    return {
        "config": json.loads(config.to_json()),
        "label_map": train_data.label_map.to_json(),
        "left_out": sorted(image.image_id for image in train_data.left_out),
        "length": list(length),
        "train_data": training_fingerprint(train_data),
    }


def start_anew(
    config: ConfigDict,
    model: EfficientDet,
    optimizer: optax.GradientTransformation,
    train_data: Source,
    meta: dict[str, Any],
    position: Any,
    say: Callable[[str], object],
) -> Start:
    """Return the start of a new run, with the same values in all processes.

    Args:
        config: config of the run.
        model: the model to initialise.
        optimizer: the optimizer to initialise.
        train_data: the training data, used to measure batch statistics that the weights lack.
        meta: from `describe_run`.
        position: the position at the beginning of the batches.
        say: called with lines about the origin of the values.

    Raises:
        UserError: the weights to start from cannot be read or do not fit.
    """
    with exchange.together():
        variables = initial_variables(config, model, train_data, say=say)
    variables = exchange.same_everywhere(variables)
    state = devices.replicate(create_state(variables, optimizer))
    unlogged = {"timer": {}, "dropped_boxes": 0, "steps": {}, "replaced_images": []}
    return Start(state, position, 0, meta, unlogged)


def go_on(
    config: ConfigDict,
    length: RunLength,
    train_data: Source,
    meta: dict[str, Any],
    checkpoints: Checkpoints,
    target: TrainState,
    workdir: Path,
) -> Start:
    """Return the start of a run that resumes from its newest checkpoint.

    Args:
        config: current config of the run.
        length: current length of the run.
        train_data: current training data.
        meta: current result of `describe_run`.
        checkpoints: checkpoints of the workdir, at least one.
        target: from `restore_target`.
        workdir: the workdir, for messages.

    Raises:
        UserError: the checkpoint is of another run, or damaged.
    """
    state, position, saved = checkpoints.restore(
        target, check=lambda saved: check_same_run(meta, saved, workdir)
    )
    step, num_images = int(state.step), len(train_data)
    change = schedule_change(config, length, saved, num_images, step)
    if step > length.total_steps:  # Record the run that was actually trained.
        recorded = {
            "config": with_length_of(meta["config"], saved),
            "length": list(length_before(saved, num_images)),
        }
        meta = {**meta, **recorded}
    return Start(state, position, step, meta, saved["loop"], change)


def restore_target(model: EfficientDet, optimizer: optax.GradientTransformation) -> TrainState:
    """Return the shapes of the state on the devices, as a target for `Checkpoints.restore`."""
    shapes = variable_shapes(model)
    state = jax.eval_shape(lambda variables: create_state(variables, optimizer), shapes)
    return devices.replicated_shapes(state)
