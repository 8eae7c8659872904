"""Where a run starts: from initial values, or from the newest checkpoint of its workdir."""

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
    """Where a run starts.

    Attributes:
        state: on the devices.
        position: in the batches.
        step: updates that it has made.
        meta: what the checkpoints of the run say of it.
        unlogged: what the loop had counted and not logged when the state was saved.
        change: a line about a schedule that is not that of before, "" for none.
    """

    state: TrainState
    position: Any
    step: int
    meta: dict[str, Any]
    unlogged: dict[str, Any]
    change: str = ""


def describe_run(config: ConfigDict, length: RunLength, train_data: Source) -> dict[str, Any]:
    """What a checkpoint says of its run, as JSON: what must not change, and what its files need."""
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
    """The start of a new run; of several processes all get the same values.

    Args:
        config: of the run.
        model: to make the variables of.
        optimizer: whose state is made too.
        train_data: of which weights without batch statistics see some.
        meta: from `describe_run`.
        position: at the beginning of the batches.
        say: is told where the values are from.

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
    """The start of a run that goes on from its newest checkpoint.

    Args:
        config: of the run now.
        length: of the run now.
        train_data: the training data now.
        meta: from `describe_run`, now.
        checkpoints: of the workdir, at least one.
        target: from `restore_target`.
        workdir: for messages.

    Raises:
        UserError: the checkpoint is of another run, or damaged.
    """
    state, position, saved = checkpoints.restore(
        target, check=lambda saved: check_same_run(meta, saved, workdir)
    )
    step, num_images = int(state.step), len(train_data)
    change = schedule_change(config, length, saved, num_images, step)
    if step > length.total_steps:  # What is recorded is the run that was trained.
        recorded = {
            "config": with_length_of(meta["config"], saved),
            "length": list(length_before(saved, num_images)),
        }
        meta = {**meta, **recorded}
    return Start(state, position, step, meta, saved["loop"], change)


def restore_target(model: EfficientDet, optimizer: optax.GradientTransformation) -> TrainState:
    """Shapes of the state of a run on the devices, as `Checkpoints.restore` takes them."""
    shapes = variable_shapes(model)
    state = jax.eval_shape(lambda variables: create_state(variables, optimizer), shapes)
    return devices.replicated_shapes(state)
