"""Loss and gradients of a batch, the first half of a training step, as pure functions.

With `axis_name` the batch is split over a mapped axis and the result equals that of one device with
the whole batch: batch statistics, the loss's normaliser and the gradients are taken over all of it.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bifpn_jax.inference import normalize_images
from bifpn_jax.losses import LossSettings, detection_loss
from bifpn_jax.matching import Targets, match
from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.train.frozen import frozen_norms
from bifpn_jax.train.optimizer import freeze_mask
from bifpn_jax.train.state import TrainState

Array = jax.Array
Batch = dict[str, Array]

# The fields of a batch that the step reads; the others stay on the host.
TRAIN_FIELDS = ("image", "content_hw", "boxes", "labels")

_LOSSES = ("loss", "class_loss", "box_loss")


class Assigned(NamedTuple):
    """Ground truth of a batch, as the loss reads it."""

    targets: Targets
    """Of every image, with B in front."""
    num_positives: Array
    """[] float32, of the whole batch: on a split batch that of all replicas."""
    normalizer: Array
    """[] float32, divides the sums of the losses."""


def assign(
    anchors: np.ndarray, boxes: Array, labels: Array, iou_threshold: float, axis_name: str | None
) -> Assigned:
    """Match the anchors to the boxes of a batch.

    Args:
        anchors: [A, 4].
        boxes: [B, M, 4], yxyx, network pixels.
        labels: [B, M], -1 in padding.
        iou_threshold: as in `match`.
        axis_name: mapped axis that splits the batch, or None.
    """
    over_images = jax.vmap(match, in_axes=(None, 0, 0, None))
    targets = over_images(jnp.asarray(anchors), boxes, labels, iou_threshold)
    num_positives = jnp.sum(targets.num_positives).astype(jnp.float32)
    replicas = 1
    if axis_name is not None:
        num_positives = lax.psum(num_positives, axis_name)
        replicas = lax.axis_size(axis_name)
    # Published code adds 1 to the positives of each replica; here it is added once per batch.
    return Assigned(targets, num_positives, (num_positives + 1.0) / replicas)


def loss_fn(
    params: Any,
    batch_stats: Any,
    images: Array,
    targets: Targets,
    normalizer: Array,
    rng: Array,
    *,
    model: EfficientDet,
    anchors: np.ndarray,
    settings: LossSettings,
    freeze: str | None = None,
) -> tuple[Array, tuple[Any, dict[str, Array]]]:
    """Compute the loss of a batch in training mode, with its by-products.

    Args:
        params: parameters of `model`.
        batch_stats: running statistics of `model`.
        images: [B, H, W, 3], normalised.
        targets: targets of these images.
        normalizer: [], from `assign`.
        rng: key for stochastic depth.
        model: its `axis_name` says whether the batch is split.
        anchors: [A, 4] of these images.
        settings: the loss and its constants.
        freeze: regular expression of the frozen parameters. Their gradients are zero and cost
            nothing, and their batch norms are in evaluation mode.

    Returns:
        loss [], (new batch_stats, {"class_loss", "box_loss"}). If the batch is split, the mean of a
        loss over the axis is that of the whole batch.
    """
    frozen = freeze_mask(params, freeze)
    params = jax.tree.map(
        lambda p, is_frozen: lax.stop_gradient(p) if is_frozen else p, params, frozen
    )
    with frozen_norms(freeze):
        outputs, updates = model.apply(
            {"params": params, "batch_stats": batch_stats},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"stochastic_depth": rng},
        )
    loss, parts = detection_loss(
        outputs.class_logits,
        outputs.box_codes,
        targets,
        normalizer,
        jnp.asarray(anchors),
        settings,
    )
    return loss, (updates.get("batch_stats", batch_stats), parts)


class Found(NamedTuple):
    """The results of the first half of a step, for the whole batch."""

    gradients: Any
    """Tree of the parameters."""
    batch_stats: Any
    """New running statistics."""
    metrics: dict[str, Array]
    """float32 scalars: loss, class_loss, box_loss, num_positives."""


def found_shapes(state: TrainState) -> Found:
    """Return the shapes of the results of `find_gradients` for a state, without tracing it."""
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    params, batch_stats = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (state.params, state.batch_stats)
    )
    return Found(params, batch_stats, dict.fromkeys((*_LOSSES, "num_positives"), scalar))


def find_gradients(
    state: TrainState,
    batch: Batch,
    *,
    model: EfficientDet,
    anchors: np.ndarray,
    settings: LossSettings,
    seed: int,
    freeze: str | None,
    parts: int,
) -> Found:
    """The first half of a `step.TrainStep`.

    Args:
        state: the state before the step.
        batch: `TRAIN_FIELDS` of this replica's part of the batch.
        model: the model, with `axis_name` if the batch is split.
        anchors: [A, 4] for the batch's image size.
        settings: constants of the loss.
        seed: seed of the stochastic depth.
        freeze: regular expression of the frozen parameters.
        parts: number of parts of the batch that go through the network one after the other.
    """
    assigned = assign(
        anchors, batch["boxes"], batch["labels"], settings.iou_threshold, model.axis_name
    )
    (losses, batch_stats), gradients = _gradients(
        state,
        batch,
        assigned,
        model=model,
        anchors=anchors,
        settings=settings,
        seed=seed,
        freeze=freeze,
        parts=parts,
    )
    metrics = {**losses, "num_positives": assigned.num_positives}
    if model.axis_name is not None:
        gradients, metrics = lax.pmean((gradients, metrics), model.axis_name)
        if model.batch_norm_group:
            # Until here every group has its own running statistics, but all share one state.
            batch_stats = lax.pmean(batch_stats, model.axis_name)
    return Found(gradients, batch_stats, metrics)


def _gradients(
    state: TrainState,
    batch: Batch,
    assigned: Assigned,
    *,
    model: EfficientDet,
    anchors: np.ndarray,
    settings: LossSettings,
    seed: int,
    freeze: str | None,
    parts: int,
) -> tuple[tuple[dict[str, Array], Any], Any]:
    """Return (({"loss", "class_loss", "box_loss"}, new batch_stats), gradients) of one replica."""
    rng = jax.random.fold_in(jax.random.key(seed), state.step)
    loss = partial(loss_fn, model=model, anchors=anchors, settings=settings, freeze=freeze)

    def of_part(
        batch_stats: Any, image: Array, content_hw: Array, targets: Targets, rng: Array
    ) -> tuple[tuple[dict[str, Array], Any], Any]:
        images = normalize_images(image, content_hw, model.mean_rgb, model.std_rgb)
        (total, (batch_stats, losses)), gradients = jax.value_and_grad(loss, has_aux=True)(
            state.params, batch_stats, images, targets, assigned.normalizer, rng
        )
        return ({"loss": total, **losses}, batch_stats), gradients

    arguments = (batch["image"], batch["content_hw"], assigned.targets)
    if parts == 1:
        return of_part(state.batch_stats, *arguments, rng)

    def add_part(so_far: Any, part: Any) -> tuple[Any, None]:
        (losses, batch_stats), gradients = so_far
        (more_losses, batch_stats), more = of_part(batch_stats, *part)
        losses, gradients = jax.tree.map(jnp.add, (losses, gradients), (more_losses, more))
        return ((losses, batch_stats), gradients), None

    zero = jnp.zeros((), jnp.float32)
    losses = dict.fromkeys(_LOSSES, zero)
    nothing = ((losses, state.batch_stats), jax.tree.map(jnp.zeros_like, state.params))
    cut = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), arguments)
    return lax.scan(add_part, nothing, (*cut, jax.random.split(rng, parts)))[0]
