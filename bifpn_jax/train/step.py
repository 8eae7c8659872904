"""One training step as a pure function: no jit, no devices in here.

With `axis_name` the batch is split over a mapped axis and the result equals that of one device with
the whole batch: batch statistics, the loss's normaliser and the gradients are taken over all of it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from bifpn_jax.inference import normalize_images
from bifpn_jax.losses import detection_loss
from bifpn_jax.matching import match
from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.train.frozen import frozen_norms
from bifpn_jax.train.optimizer import ema_decay, freeze_mask, update_ema
from bifpn_jax.train.state import TrainState

Array = jax.Array
Batch = dict[str, Array]

# The fields of a batch that the step reads; the others stay on the host.
TRAIN_FIELDS = ("image", "content_hw", "boxes", "labels")


class LossSettings(NamedTuple):
    """Constants of the loss (paper section 5)."""

    alpha: float = 0.25
    gamma: float = 1.5
    label_smoothing: float = 0.0
    delta: float = 0.1
    box_weight: float = 50.0
    iou_threshold: float = 0.5


def loss_fn(
    params: Any,
    batch_stats: Any,
    images: Array,
    boxes: Array,
    labels: Array,
    rng: Array,
    *,
    model: EfficientDet,
    anchors: np.ndarray,
    settings: LossSettings,
    freeze: str | None = None,
) -> tuple[Array, tuple[Any, dict[str, Array]]]:
    """Loss of a batch in training mode, with its by-products.

    Args:
        params: parameters of `model`.
        batch_stats: running statistics of `model`.
        images: [B, H, W, 3], normalised.
        boxes: [B, M, 4], yxyx, network pixels.
        labels: [B, M], -1 in padding.
        rng: key for stochastic depth.
        model: its `axis_name` says whether the batch is split.
        anchors: [A, 4].
        settings: constants of the loss.
        freeze: regular expression of the parameters that are not trained. Their gradients are zero
            and cost nothing, and their batch norms are in evaluation mode.

    Returns:
        loss [], (new batch_stats, {"class_loss", "box_loss", "num_positives"}). On a split batch
        the mean of a loss over the axis is that of the whole batch; num_positives is the sum.
    """
    frozen = freeze_mask(params, freeze)
    params = jax.tree.map(lambda p, ice: lax.stop_gradient(p) if ice else p, params, frozen)
    with frozen_norms(freeze):
        outputs, updates = model.apply(
            {"params": params, "batch_stats": batch_stats},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"stochastic_depth": rng},
        )
    assign = jax.vmap(match, in_axes=(None, 0, 0, None))
    targets = assign(jnp.asarray(anchors), boxes, labels, settings.iou_threshold)
    num_positives = jnp.sum(targets.num_positives).astype(jnp.float32)
    replicas = 1
    if model.axis_name is not None:
        num_positives = lax.psum(num_positives, model.axis_name)
        replicas = lax.axis_size(model.axis_name)
    # Published code adds 1 to the positives of each replica; here it is once for the whole batch.
    normalizer = (num_positives + 1.0) / replicas
    loss, parts = detection_loss(
        outputs.class_logits,
        outputs.box_codes,
        targets,
        normalizer,
        alpha=settings.alpha,
        gamma=settings.gamma,
        label_smoothing=settings.label_smoothing,
        delta=settings.delta,
        box_weight=settings.box_weight,
    )
    return loss, (updates["batch_stats"], {**parts, "num_positives": num_positives})


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: EfficientDet,
    anchors: np.ndarray,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    settings: LossSettings,
    max_ema_decay: float,
    seed: int,
    freeze: str | None = None,
) -> tuple[TrainState, dict[str, Array]]:
    """One update.

    Args:
        state: before the step.
        batch: `TRAIN_FIELDS` of this replica's part of the batch.
        model: with `axis_name` where the batch is split.
        anchors: [A, 4] for the batch's image size.
        optimizer: transformation from gradients to updates.
        schedule: learning rate of a step, for the metrics.
        settings: constants of the loss.
        max_ema_decay: decay of the weight average once it has warmed up; with 0 the average is
            the newest value.
        seed: of the stochastic depth; the draw of a step depends on it and on the step.
        freeze: regular expression of the parameters that are not trained, the optimizer's.

    Returns:
        The state after the step, and float32 scalars of the whole batch: loss, class_loss,
        box_loss, num_positives, gradient_norm (before decay and clipping), learning_rate.
    """
    images = normalize_images(batch["image"], batch["content_hw"], model.mean_rgb, model.std_rgb)
    rng = jax.random.fold_in(jax.random.key(seed), state.step)
    gradient_fn = jax.value_and_grad(loss_fn, has_aux=True)
    (loss, (batch_stats, metrics)), gradients = gradient_fn(
        state.params,
        state.batch_stats,
        images,
        batch["boxes"],
        batch["labels"],
        rng,
        model=model,
        anchors=anchors,
        settings=settings,
        freeze=freeze,
    )
    metrics = {"loss": loss, **metrics}
    if model.axis_name is not None:
        gradients, metrics = lax.pmean((gradients, metrics), model.axis_name)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    decay = ema_decay(state.step, max_ema_decay)
    state = TrainState(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        ema_params=update_ema(state.ema_params, params, decay),
        ema_batch_stats=update_ema(state.ema_batch_stats, batch_stats, decay),
    )
    metrics["gradient_norm"] = optax.tree.norm(gradients)
    metrics["learning_rate"] = jnp.asarray(schedule(state.step - 1), jnp.float32)
    return state, metrics
