"""One real training step of a small model."""

from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from quick_compilation import quick_compilation

from bifpn_jax.models.detector import EfficientDet, make_anchors
from bifpn_jax.train.state import TrainState, create_state
from bifpn_jax.train.step import LossSettings, train_step


def small_batch(model: EfficientDet) -> dict[str, np.ndarray]:
    """Two images of noise, each with one box."""
    rng = np.random.default_rng(1)
    return {
        "image": rng.integers(0, 256, (2, *model.image_hw, 3), np.uint8),
        "content_hw": np.array([model.image_hw] * 2, np.int32),
        "boxes": np.array([[[4, 4, 40, 40]], [[20, 8, 60, 50]]], np.float32),
        "labels": np.array([[0], [2]], np.int32),
    }


def train_once(
    model: EfficientDet,
    variables: dict[str, Any],
    optimizer: optax.GradientTransformation,
    batch: dict[str, np.ndarray] | None = None,
    **settings: Any,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """State after a step, with averages equal to the weights, and its metrics.

    Args:
        model: of the size of the images.
        variables: before the step.
        optimizer: of its update.
        batch: by default `small_batch`.
        **settings: more arguments of `train_step`, such as `freeze`.
    """
    step = partial(
        train_step,
        model=model,
        anchors=make_anchors(model, model.image_hw),
        optimizer=optimizer,
        schedule=optax.constant_schedule(0.1),
        settings=LossSettings(),
        max_ema_decay=0.0,
        seed=0,
        **settings,
    )
    with quick_compilation():
        return jax.jit(step)(create_state(variables, optimizer), batch or small_batch(model))
