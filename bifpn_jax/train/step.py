"""One training step, without jit or devices."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bifpn_jax.losses import LossSettings
from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.train.gradients import (
    Batch,
    Found,
    find_gradients,
    found_shapes,
)
from bifpn_jax.train.optimizer import ema_decay, update_ema
from bifpn_jax.train.state import TrainState

Array = jax.Array

# What to do about a loss or a gradient that is not finite: stop, or leave its step out.
ERROR, SKIP = NONFINITE = ("error", "skip")


@dataclass(frozen=True)
class TrainStep:
    """One update, in two halves that can be compiled in parallel; a call does both.

    Attributes:
        gradients: (state, batch) -> `Found`. The batch has the `TRAIN_FIELDS` of this replica's
            part; if it is split, all exchange between replicas happens here.
        update: (state, found) -> (state, metrics), the same on all replicas. The metrics are
            those of `Found`, gradient_norm (before decay and clipping) and learning_rate.
        found_shapes: state -> shapes of the results of `gradients`; reads only the shapes of the
            state.
    """

    gradients: Callable[[TrainState, Batch], Found]
    update: Callable[[TrainState, Found], tuple[TrainState, dict[str, Array]]]
    found_shapes: Callable[[TrainState], Found] = found_shapes

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        """(state, batch) -> (state after the step, metrics)."""
        return self.update(state, self.gradients(state, batch))


def make_train_step(
    *,
    model: EfficientDet,
    anchors: np.ndarray,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    settings: LossSettings,
    max_ema_decay: float,
    seed: int,
    freeze: str | None = None,
    accumulate: int = 1,
    skip_nonfinite: bool = False,
) -> TrainStep:
    """Make a training step.

    Args:
        model: the model, with `axis_name` if the batch is split.
        anchors: [A, 4] for the batch's image size.
        optimizer: transformation from gradients to updates.
        schedule: learning rate of a step, for the metrics.
        settings: constants of the loss.
        max_ema_decay: decay of the weight average once it has warmed up; with 0 the average is
            the newest value.
        seed: seed of the stochastic depth; the draw of a step depends on it and on the step.
        freeze: regular expression of the frozen parameters, as for the optimizer.
        accumulate: number of equal parts of this replica's batch that go through the network one
            after the other, each with its own batch statistics, to need the memory of one. Loss
            and gradient are those of the whole batch.
        skip_nonfinite: if the loss or the gradient's norm is not finite, keep all of the state
            except the step counts.
    """
    return TrainStep(
        partial(
            find_gradients,
            model=model,
            anchors=anchors,
            settings=settings,
            seed=seed,
            freeze=freeze,
            parts=accumulate,
        ),
        partial(
            _update,
            optimizer=optimizer,
            schedule=schedule,
            max_ema_decay=max_ema_decay,
            skip_nonfinite=skip_nonfinite,
        ),
    )


def _update(
    state: TrainState,
    found: Found,
    *,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    max_ema_decay: float,
    skip_nonfinite: bool,
) -> tuple[TrainState, dict[str, Array]]:
    updates, opt_state = optimizer.update(found.gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    decay = ema_decay(state.step, max_ema_decay)
    metrics = {
        **found.metrics,
        "gradient_norm": optax.tree.norm(found.gradients),
        "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
    }
    new = TrainState(
        step=state.step + 1,
        params=params,
        batch_stats=found.batch_stats,
        opt_state=opt_state,
        ema_params=update_ema(state.ema_params, params, decay),
        ema_batch_stats=update_ema(state.ema_batch_stats, found.batch_stats, decay),
    )
    if skip_nonfinite:
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["gradient_norm"])

        def keep(new: Array, old: Array) -> Array:
            return jnp.where(finite, new, old) if jnp.issubdtype(old.dtype, jnp.floating) else new

        new = jax.tree.map(keep, new, state)
    return new, metrics
