"""Turns the fields of a config into calls of the library; the only place that knows both."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import optax
from ml_collections import ConfigDict

from bifpn_jax.data.label_map import CATEGORY_ID, LabelMap
from bifpn_jax.data.pipeline import EvalBatches, TrainBatches, eval_batches, train_batches
from bifpn_jax.data.records import Source
from bifpn_jax.data.sources.opening import open_source
from bifpn_jax.data.sources.relabelling import Relabelled, match_classes
from bifpn_jax.errors import UserError, renaming
from bifpn_jax.inference import PREDICT_FIELDS, predict_step
from bifpn_jax.losses import LossSettings
from bifpn_jax.models.detector import EfficientDet, make_anchors
from bifpn_jax.postprocessing import Detections
from bifpn_jax.recipe.augmenting import augmentation_steps
from bifpn_jax.recipe.fields import fields_of
from bifpn_jax.train import devices
from bifpn_jax.train.optimizer import make_optimizer
from bifpn_jax.train.schedule import longest_warmup, make_schedule, peak_learning_rate
from bifpn_jax.train.step import SKIP, TrainStep, make_train_step
from bifpn_jax.trained.config import configured_model, configured_postprocessing


class RunLength(NamedTuple):
    """The length of a run.

    Attributes:
        total_steps: number of updates.
        steps_per_epoch: updates per pass over the data, not rounded.
    """

    total_steps: int
    steps_per_epoch: float

    def steps(self, epochs: float) -> int:
        """Return the number of whole steps in some epochs, at least one."""
        return max(1, round(epochs * self.steps_per_epoch))


def run_length(config: ConfigDict, num_images: int) -> RunLength:
    """Return the length of a run; ``train.steps`` overrides ``train.epochs`` unless it is 0."""
    per_epoch = num_images / config.train.batch_size
    total = config.train.steps or max(1, round(config.train.epochs * per_epoch))
    return RunLength(total, per_epoch)


def source(config: ConfigDict, split: str, num_classes: int = 0) -> Source:
    """Open the "train" or "eval" part of the config's dataset.

    Training data has the labels that the config asks for, with `num_classes` outputs if those are
    category ids; evaluation data has those of its file, to be matched with the model's classes.
    """
    data = config.data
    with renaming(fields_of(config, "data")):
        opened = open_source(
            data.source,
            split,
            data_dir=data.data_dir or None,
            train_images=data.train_images,
            train_annotations=data.train_annotations,
            eval_images=data.eval_images,
            eval_annotations=data.eval_annotations,
            train_split=data.train_split,
            eval_split=data.eval_split,
            bad_boxes=data.bad_boxes,
            bad_images=data.bad_images,
            shapes=data.shapes,
        )
    if data.label_space == CATEGORY_ID and split == "train":
        outputs = num_classes or config.model.num_classes or max(opened.label_map.category_ids)
        opened = Relabelled(opened, opened.label_map.with_gaps(outputs))
    return opened


def sources(config: ConfigDict) -> tuple[Source, Source]:
    """Open training and evaluation data, both with the labels of the training data."""
    train, evaluation = source(config, "train"), source(config, "eval")
    return train, match_classes(train, evaluation)


def model(
    config: ConfigDict, label_map: LabelMap | None, axis_name: str | None = None
) -> EfficientDet:
    """Make the config's model, with as many classes as the label map has."""
    num_classes = config.model.num_classes
    if label_map is not None:
        if num_classes not in (0, len(label_map)):
            raise UserError(
                f"config.model.num_classes={num_classes} but the data has "
                f"{len(label_map)} classes: leave it 0, or set "
                "config.data.label_space=category_id for outputs that are category ids."
            )
        num_classes = len(label_map)
    return configured_model(config, num_classes, axis_name=axis_name)


def schedule(config: ConfigDict, length: RunLength) -> optax.Schedule:
    """Return the learning rate as a function of the step.

    Raises:
        UserError: the warm-up does not fit in the run.
    """
    given = config.schedule
    curve = {"decay": given.decay, "offset_cosine": given.offset_cosine}
    warmup_steps = length.steps(given.warmup_epochs) if given.warmup_epochs > 0 else 0
    longest = longest_warmup(length.total_steps, **curve)
    if warmup_steps > longest:
        # Truncated, not rounded, so that the suggested value fits.
        fits = math.floor(1000 * longest / length.steps_per_epoch) / 1000 if longest else 0.0
        why = " with the published cosine" if longest < length.total_steps - 1 else ""
        raise UserError(
            f"config.schedule.warmup_epochs={given.warmup_epochs:g}: a warm-up of {warmup_steps} "
            f"steps does not fit in a run of {length.total_steps} steps{why}, at most {longest} "
            f"do: set config.schedule.warmup_epochs={fits} or less, or lengthen the run with "
            "config.train.steps or config.train.epochs."
        )
    return make_schedule(
        peak=peak_learning_rate(config.train.batch_size, given.base_rate),
        total_steps=length.total_steps,
        warmup_steps=warmup_steps,
        warmup_init=given.warmup_init,
        **curve,
    )


def optimizer(
    config: ConfigDict, rate: optax.Schedule, params: Any
) -> optax.GradientTransformation:
    """Make the optimizer for parameters, or their shapes."""
    settings = config.optimizer
    return make_optimizer(
        rate,
        params,
        name=settings.name,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        clip_norm=settings.clip_norm or None,
        clip_each_norm=settings.clip_each_norm or None,
        freeze=settings.freeze or None,
    )


def loss_settings(config: ConfigDict) -> LossSettings:
    """Return the loss and its constants."""
    return LossSettings(**config.loss)


def check_devices(config: ConfigDict) -> None:
    """Raise a UserError unless the devices can share the batches as the config splits them."""
    with renaming(fields_of(config, "train") | fields_of(config, "model")):
        devices.check_batch_size(config.train.batch_size, config.train.accumulate)
        devices.check_batch_norm_group(config.model.batch_norm_group)


def training_step(
    config: ConfigDict,
    model: EfficientDet,
    optimizer: optax.GradientTransformation,
    rate: optax.Schedule,
) -> TrainStep:
    """Make the training step of (state, batch) from the config."""
    return make_train_step(
        model=model,
        anchors=make_anchors(model, model.image_hw),
        optimizer=optimizer,
        schedule=rate,
        settings=loss_settings(config),
        max_ema_decay=config.ema_decay,
        seed=config.seed,
        freeze=config.optimizer.freeze or None,
        accumulate=config.train.accumulate,
        skip_nonfinite=config.train.nonfinite == SKIP,
    )


def postprocessing(config: ConfigDict) -> dict[str, Any]:
    """Return the arguments of `postprocess` for an evaluation."""
    return configured_postprocessing(config)


def predict_fn(config: ConfigDict, model: EfficientDet) -> Callable[[Any, Any], Detections]:
    """Return a function (variables, host batch) -> detections [B, …] that uses all devices."""
    step = devices.map_predict_step(
        partial(
            predict_step,
            model=model,
            anchors=make_anchors(model, model.image_hw),
            **postprocessing(config),
        )
    )
    return lambda variables, batch: step(variables, devices.split(batch, PREDICT_FIELDS))


def training_batches(
    config: ConfigDict,
    model: EfficientDet,
    source: Source,
    *,
    shard_index: int = 0,
    shard_count: int = 1,
) -> TrainBatches:
    """Return endless augmented batches, or one shard of them."""
    return train_batches(
        source,
        batch_size=config.train.batch_size,
        image_hw=model.image_hw,
        max_boxes=config.data.max_boxes,
        seed=config.seed,
        augmentations=augmentation_steps(config),
        antialias=config.data.antialias,
        bad_images=config.data.bad_images,
        num_threads=config.data.num_threads or None,
        shard_index=shard_index,
        shard_count=shard_count,
    )


def evaluation_batches(
    config: ConfigDict,
    model: EfficientDet,
    source: Source,
    batch_size: int = 0,
    *,
    shard_index: int = 0,
    shard_count: int = 1,
) -> EvalBatches:
    """Return the batches of one evaluation, or one shard; batch size 0 is the config's."""
    return eval_batches(
        source,
        batch_size=devices.round_up_batch_size(batch_size or config.eval.batch_size),
        image_hw=model.image_hw,
        max_boxes=config.data.max_boxes,
        antialias=config.data.antialias,
        bad_images=config.data.bad_images,
        num_threads=config.data.num_threads or None,
        shard_index=shard_index,
        shard_count=shard_count,
    )
