"""The data-parallel training step of a model, traced for shapes; nothing is run."""

from functools import partial
from typing import Any

import jax
import numpy as np
from jax.extend import core
from ml_collections import ConfigDict

from bifpn_jax.models.detector import EfficientDet, make_anchors
from bifpn_jax.models.initial_values import variable_shapes
from bifpn_jax.models.traffic import array_bytes
from bifpn_jax.recipe import building
from bifpn_jax.train import devices
from bifpn_jax.train.gradients import TRAIN_FIELDS, assign, loss_fn
from bifpn_jax.train.state import create_state
from experiments.performance import programs

# Operations that only change the shape of their input.
_RESHAPES = ("reshape", "squeeze", "expand_dims")


def mapped_step(
    config: ConfigDict, model: EfficientDet, batch_size: int
) -> tuple[Any, Any, dict[str, jax.ShapeDtypeStruct]]:
    """Return the step over all devices as one program, and the shapes of its state and batch.

    Args:
        config: the config of the optimizer, the loss and the averages.
        model: the model, as for one device; batch statistics are taken over all devices.
        batch_size: images on each device.

    Returns:
        mapped step, whose `lower(state, batch)` is the program; state; batch [devices, B, …].
    """
    model = model.clone(axis_name=devices.AXIS)
    variables = variable_shapes(model)
    step, optimizer = programs.plain_step(config, model, variables["params"])
    state = jax.eval_shape(lambda variables: create_state(variables, optimizer), variables)
    replicas = devices.device_count()
    batch = programs.training_batch(1, model.image_hw, config.data.max_boxes)
    shapes = {
        field: jax.ShapeDtypeStruct(
            (replicas, batch_size, *batch[field].shape[1:]), batch[field].dtype
        )
        for field in TRAIN_FIELDS
    }
    return devices.map_as_one_program(step), state, shapes


def kept_bytes(config: ConfigDict, model: EfficientDet, batch_size: int) -> int:
    """Return the bytes of the forward pass's arrays that the backward pass reads.

    These are the arrays that automatic differentiation keeps, without parameters and batch; each
    counts once, and reshaped arrays count as their source. A compiler may recompute some instead.

    Args:
        config: the config of the loss.
        model: the model on one device; `remat` keeps less.
        batch_size: number of images.
    """
    variables = variable_shapes(model)
    batch = programs.training_batch(1, model.image_hw, config.data.max_boxes)
    anchors = make_anchors(model, model.image_hw)
    settings = building.loss_settings(config)

    def backward(
        variables: Any, images: Any, boxes: Any, labels: Any, rng: Any
    ) -> jax.tree_util.Partial:
        assigned = assign(anchors, boxes, labels, settings.iou_threshold, None)
        loss = partial(
            loss_fn,
            batch_stats=variables["batch_stats"],
            images=images,
            targets=assigned.targets,
            normalizer=assigned.normalizer,
            rng=rng,
            model=model,
            anchors=anchors,
            settings=settings,
        )
        return jax.vjp(loss, variables["params"], has_aux=True)[1]

    def of_batch(array: np.ndarray, dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch_size, *array.shape[1:]), dtype)

    program = jax.make_jaxpr(backward)(
        variables,
        of_batch(batch["image"], np.float32),
        of_batch(batch["boxes"], np.float32),
        of_batch(batch["labels"], np.int32),
        jax.eval_shape(lambda: jax.random.key(0)),
    ).jaxpr
    made_from = {
        eqn.outvars[0]: eqn.invars[0] for eqn in program.eqns if eqn.primitive.name in _RESHAPES
    }
    kept = {_origin(var, made_from) for var in program.outvars if isinstance(var, core.Var)}
    return sum(array_bytes(var) for var in kept - {*program.invars, *program.constvars})


def tree_bytes(tree: Any) -> int:
    """Return the bytes of all arrays, or shapes, in a tree."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _origin(var: Any, made_from: dict[Any, Any]) -> Any:
    while var in made_from:
        var = made_from[var]
    return var
