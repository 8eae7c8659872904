"""One real training step of a small model."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from bifpn_jax.losses import LossSettings
from bifpn_jax.models.detector import EfficientDet, make_anchors
from bifpn_jax.train.state import TrainState, create_state
from bifpn_jax.train.step import make_train_step


def small_batch(model: EfficientDet) -> dict[str, np.ndarray]:
    """Two images of noise, each with one box."""
    rng = np.random.default_rng(1)
    return {
        "image": rng.integers(0, 256, (2, *model.image_hw, 3), np.uint8),
        "content_hw": np.array([model.image_hw] * 2, np.int32),
        "boxes": np.array([[[4, 4, 40, 40]], [[20, 8, 60, 50]]], np.float32),
        "labels": np.array([[0], [2]], np.int32),
    }


def jitted_step(
    model: EfficientDet, optimizer: optax.GradientTransformation, **settings: Any
) -> Callable[[TrainState, dict[str, np.ndarray]], tuple[TrainState, dict[str, jax.Array]]]:
    """A step of state and batch, with averages equal to the weights.

    Args:
        model: of the size of the images.
        optimizer: of its update.
        **settings: more arguments of `make_train_step`, such as `freeze`.
    """
    step = make_train_step(
        model=model,
        anchors=make_anchors(model, model.image_hw),
        optimizer=optimizer,
        schedule=optax.constant_schedule(0.1),
        settings=LossSettings(),
        max_ema_decay=0.0,
        seed=0,
        **settings,
    )
    return jax.jit(step)


def train_once(
    model: EfficientDet,
    variables: dict[str, Any],
    optimizer: optax.GradientTransformation,
    batch: dict[str, np.ndarray] | None = None,
    **settings: Any,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """State and metrics after one step from `variables`, of `small_batch` by default."""
    step = jitted_step(model, optimizer, **settings)
    return step(create_state(variables, optimizer), batch or small_batch(model))
