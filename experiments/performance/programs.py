"""Our programs as in training and prediction, with made-up input of the right shapes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.models.initial_values import init_variables, variable_shapes
from bifpn_jax.recipe import building
from bifpn_jax.train.state import create_state
from bifpn_jax.train.step import TrainStep
from bifpn_jax.train.step_programs import StepPrograms

_BOXES = 8  # per image


def forward(model: EfficientDet, variables: Any, batch_size: int) -> Callable[[], object]:
    """Return the forward pass, from float32 images to logits and box codes."""
    images = random_images(batch_size, model.image_hw).astype(np.float32) / 64 - 2
    run = jax.jit(partial(model.apply, train=False))
    images = jax.device_put(images)
    return lambda: jax.block_until_ready(run(variables, images))


def training_step(config: ConfigDict, model: EfficientDet, batch_size: int) -> Callable[[], object]:
    """Return a complete training step, from uint8 images to new weights and averages.

    Args:
        config: the config of the optimizer, the loss and the averages.
        model: the network, on one device.
        batch_size: number of images.
    """
    variables = init_variables(model, config.seed)
    step, optimizer = plain_step(config, model, variables["params"])
    programs = two_programs(step)
    state = create_state(variables, optimizer)
    batch = jax.device_put(training_batch(batch_size, model.image_hw, config.data.max_boxes))

    def run() -> None:
        nonlocal state
        state, metrics = programs(state, batch)
        jax.block_until_ready((state, metrics))

    return run


def plain_step(
    config: ConfigDict, model: EfficientDet, params: Any
) -> tuple[TrainStep, optax.GradientTransformation]:
    """Return the step, neither jitted nor mapped over devices, and its optimizer.

    Args:
        config: as in `training_step`.
        model: as in `training_step`.
        params: parameters of the model, or their shapes.
    """
    schedule = optax.constant_schedule(1e-3)  # the rate does not change the time
    optimizer = building.optimizer(config, schedule, params)
    return building.training_step(config, model, optimizer, schedule), optimizer


def two_programs(step: TrainStep) -> StepPrograms:
    """Return the step as training compiles it, on one device."""
    return StepPrograms(
        jax.jit(step.gradients),
        jax.jit(step.update, donate_argnums=0),
        found_shapes=step.found_shapes,
    )


def step_to_trace(
    config: ConfigDict, model: EfficientDet, batch_size: int
) -> tuple[TrainStep, Any, dict[str, np.ndarray]]:
    """Return a step and the shapes of its state and batch: `jax.jit(step).trace(state, batch)`.

    Args:
        config: as in `training_step`.
        model: as in `training_step`.
        batch_size: number of images.
    """
    variables = variable_shapes(model)
    step, optimizer = plain_step(config, model, variables["params"])
    state = jax.eval_shape(lambda variables: create_state(variables, optimizer), variables)
    return step, state, training_batch(batch_size, model.image_hw, config.data.max_boxes)


def random_images(batch_size: int, image_hw: tuple[int, int]) -> np.ndarray:
    """Return random images [B, H, W, 3] uint8."""
    return np.random.default_rng(0).integers(0, 256, (batch_size, *image_hw, 3), np.uint8)


def random_boxes(batch_size: int, image_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes [B, M, 4] in pixels, an eighth to a half of the image, and labels [B, M]."""
    rng = np.random.default_rng(1)
    sides = rng.uniform(1 / 8, 1 / 2, (batch_size, _BOXES, 2))
    corners = rng.uniform(0, 1, sides.shape) * (1 - sides)
    boxes = np.concatenate([corners, corners + sides], -1) * np.tile(image_hw, 2)
    labels = rng.integers(0, 80, (batch_size, _BOXES))
    return boxes.astype(np.float32), labels.astype(np.int32)


def training_batch(
    batch_size: int, image_hw: tuple[int, int], max_boxes: int
) -> dict[str, np.ndarray]:
    """Return the input of a training step, padded to `max_boxes`."""
    boxes, labels = random_boxes(batch_size, image_hw)
    missing = ((0, 0), (0, max_boxes - _BOXES))
    return {
        "image": random_images(batch_size, image_hw),
        "content_hw": np.full((batch_size, 2), image_hw, np.int32),
        "boxes": np.pad(boxes, (*missing, (0, 0))),
        "labels": np.pad(labels, missing, constant_values=-1),
    }
