"""The recipe of the paper as one config, and the compound-scaling rule that its models follow.

Compound scaling (section 4): one number phi sets width, depth and resolution,

    W_bifpn = 64 * 1.35^phi     D_bifpn = 3 + phi
    D_head = 3 + floor(phi / 3)     R = 512 + 128 * phi

and the backbone is EfficientNet-B(phi). The released models use a table that is close to it
(`bifpn_jax.models.scaling.MODELS`); where it differs, `config.scaling.deviations` says so:

    phi          0     1      2      3      4      5      6      7
    W  rule     64  86.4  116.6  157.5  212.6  287.0  387.4  523.0
       used     64    88    112    160    224    288    384    384
    D  rule      3     4      5      6      7      8      9     10
       used      3     4      5      6      7      7      8      8
    head both    3     3      3      4      4      4      5      5
    R  rule    512   640    768    896   1024   1152   1280   1408
       used    512   640    768    896   1024   1280   1280   1536

A recipe names a model and uses this base: `get_config("d1", arg)`. What follows the colon on the
command line, `--config=d1:debug`, is passed as `arg`; single fields are set with
`--config.train.batch_size=32`. `--help_config` lists the meaning and allowed values of each field,
from `bifpn_jax.recipe.field_descriptions` and `bifpn_jax.recipe.model_fields`.
"""

import difflib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ml_collections import ConfigDict

from bifpn_jax.anchors import ASPECT_RATIOS
from bifpn_jax.data.augment.applying import PUBLISHED as AUGMENTATIONS
from bifpn_jax.data.augment.scale_jitter import SCALES
from bifpn_jax.errors import UserError
from bifpn_jax.losses import LossSettings
from bifpn_jax.models.scaling import (
    MODELS,
    compound_scaling,
    deviations,
)
from bifpn_jax.postprocessing import PUBLISHED
from bifpn_jax.train.optimizer import make_optimizer
from bifpn_jax.train.schedule import learning_rate, make_schedule, peak_learning_rate

# Published for the largest models; 300 for the others.
_EPOCHS = {"d7": 600.0, "d7x": 600.0}


def get_config(name: str, arg: str | None = None) -> ConfigDict:
    """Return the published recipe for one model.

    Args:
        name: key of `bifpn_jax.models.scaling.MODELS`.
        arg: comma-separated switches; "debug" shrinks the run, see `apply_switches`.
    """
    config = ConfigDict()
    config.name = name
    config.study = ""
    config.seed = 0
    config.init_from = ""
    config.init_only = ""
    config.init_settings = False
    config.model = _model(name)
    config.scaling = _scaling(name)
    config.data = _data()
    config.augment = ConfigDict({"flip": True, "jitter": SCALES, "recipe": AUGMENTATIONS})
    config.train = ConfigDict(
        {
            "batch_size": 64,
            "accumulate": 1,
            "epochs": _EPOCHS.get(name, 300.0),
            "steps": 0,
            "nonfinite": "error",
        }
    )
    config.schedule = _schedule()
    config.optimizer = _optimizer()
    config.ema_decay = 0.9998
    config.loss = ConfigDict(LossSettings()._asdict())
    config.eval = _evaluation()
    config.checkpoint = ConfigDict({"every_epochs": 1.0, "keep_latest": 2, "best_metric": "AP"})
    config.log = ConfigDict({"every_steps": 50, "progress": True})
    apply_switches(config, arg)
    return config


def split_words(arg: str | None) -> list[str]:
    """Return the words after the colon of ``--config=FILE:WORDS``."""
    return [word.strip() for word in (arg or "").split(",") if word.strip()]


def apply_switches(
    config: ConfigDict,
    arg: str | None,
    others: Sequence[str] = (),
    *,
    keep_model: bool = False,
) -> None:
    """Change a config according to the words after the colon of ``--config=FILE:WORDS``.

    "debug" makes it a short run, most of whose time is compilation: about a minute on a laptop,
    with two evaluations and checkpoints. It keeps what determines which code runs: feature network,
    fusion, levels, anchors, activation, normalisation, optimizer, loss, NMS. It reduces how often
    that code runs and on what: the backbone to "nano", the feature network to one cell and the
    heads to one layer of 16 channels, images to 64 pixels, data to drawn shapes, 16 steps. Fields
    on the command line are set after it and take precedence.

    Args:
        config: the config to change.
        arg: the remaining words, separated by commas.
        others: the words that the config takes in addition to "debug", for the message.
        keep_model: debug keeps the size of the model, for a recipe whose weights must fit.

    Raises:
        UserError: a word is unknown; the message lists the known ones, the closest first.
    """
    for word in split_words(arg):
        if word != "debug":
            known = [*others, "debug"]
            near = difflib.get_close_matches(word.lower(), known, len(known), 0.0)
            meant = difflib.get_close_matches(word.lower(), near, 1)
            hint = f"did you mean {meant[0]}? There are" if meant and len(known) > 1 else "use"
            raise UserError(f"unknown switch {word!r} after the colon: {hint} {', '.join(near)}.")
        if not keep_model:
            _shrink_model(config)
        _shrink(config)


def _model(name: str) -> ConfigDict:
    released = MODELS[name]
    return ConfigDict(
        {
            "name": name,
            "num_classes": 0,
            "backbone": released.backbone,
            "image_hw": (released.image_size, released.image_size),
            "width": released.width,
            "network_repeats": released.network_repeats,
            "head_repeats": released.head_repeats,
            "feature_network": "bifpn",
            "fusion": released.fusion,
            "separable": True,
            "separable_heads": True,
            "upsampling": "nearest",
            "downsampling": "max",
            "padding": "same",
            "backbone_padding": "",
            "conv_bias": True,
            "expanded_features": False,
            "activation": released.activation,
            "norm": "batch_norm",
            "min_level": 3,
            "max_level": released.max_level,
            "anchor_scale": released.anchor_scale,
            "num_scales": 3,
            "aspect_ratios": ASPECT_RATIOS,
            "mean_rgb": released.mean_rgb,
            "std_rgb": released.std_rgb,
            "survival_prob": released.survival_prob,
            "batch_norm_momentum": 0.99,
            "batch_norm_group": 0,
            "backbone_batch_norm_epsilon": 1e-3,
            "remat": "",
            "dtype": "float32",
        }
    )


def _scaling(name: str) -> ConfigDict:
    """For the record only: the compound scaling rule, and where this model deviates from it."""
    phi = MODELS[name].phi
    rule = {} if phi is None else compound_scaling(phi)._asdict()
    return ConfigDict({"rule": rule, "deviations": deviations(name)})


def _data() -> ConfigDict:
    return ConfigDict(
        {
            "source": "coco2017",
            "data_dir": "",
            "train_images": "",
            "train_annotations": "",
            "eval_images": "",
            "eval_annotations": "",
            "train_split": "train",
            "eval_split": "validation",
            "bad_boxes": "error",
            "bad_images": "error",
            "label_space": "contiguous",
            "antialias": False,
            "max_boxes": 100,
            "num_threads": 0,
            "shapes": {"num_train": 2000, "num_eval": 300, "seed": 0},
        }
    )


def _schedule() -> ConfigDict:
    return ConfigDict(
        {
            "base_rate": _default(peak_learning_rate, "base"),
            "warmup_epochs": 1.0,
            "warmup_init": _default(learning_rate, "warmup_init"),
            "decay": _default(make_schedule, "decay"),
            "offset_cosine": _default(make_schedule, "offset_cosine"),
        }
    )


def _optimizer() -> ConfigDict:
    names = ("name", "momentum", "weight_decay", "clip_norm", "clip_each_norm")
    return ConfigDict({name: _default(make_optimizer, name) for name in names} | {"freeze": ""})


def _default(function: Callable[..., Any], argument: str) -> Any:
    """Return the default of a function's argument, so that it is written only once."""
    return inspect.signature(function).parameters[argument].default


def _evaluation() -> ConfigDict:
    return ConfigDict(
        {
            "every_epochs": 10.0,
            "batch_size": 16,
            "weights": "ema",
            "metrics": (),
            **PUBLISHED._asdict(),
        }
    )


def _shrink_model(config: ConfigDict) -> None:
    """Reduce a model to as few operations as possible, because they determine compile time."""
    model = config.model
    model.backbone = "nano"
    model.width = min(model.width, 16)
    model.network_repeats = model.head_repeats = 1


def _shrink(config: ConfigDict) -> None:
    """Reduce a run to a few steps on a few small drawn images."""
    config.data.source = "shapes"
    config.data.shapes = ConfigDict({"num_train": 64, "num_eval": 16, "seed": 0})
    config.model.image_hw = (64, 64)
    config.train.batch_size = 8
    config.train.steps = 16
    config.schedule.warmup_epochs = 0.5
    config.eval.batch_size = 8
    config.eval.every_epochs = 1.0
    config.log.every_steps = 4
