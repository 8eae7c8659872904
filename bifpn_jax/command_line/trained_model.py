"""The flags that name a trained detector, and the config of its training run."""

from collections.abc import Mapping
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from bifpn_jax.command_line.image_size import parse_image_hw
from bifpn_jax.errors import UserError
from bifpn_jax.models.scaling import MODELS
from bifpn_jax.nms import SCORE_THRESHOLDS
from bifpn_jax.recipe import base
from bifpn_jax.recipe.fields import ADDED_FIELDS
from bifpn_jax.trained import Detector, load_detector

# Arguments of `load_detector` that have flags of the same names.
_SAME = ("model", "class_names", "step", "ema", "image_hw", "trust_code")
FLAG_NAMES = {name: name for name in _SAME} | {"weights": "weights", "nms_method": "nms"}


def define_flags() -> None:
    """Define the flags that say which weights to use, and how to use them."""
    flags.DEFINE_string(
        "model", "", "Name of the model, d0 … d7x or lite0 …; needed if the weights fit several."
    )
    flags.DEFINE_string(
        "weights",
        None,
        "Workdir of a training run, weights file (.pth, .safetensors, .tflite, TensorFlow "
        "checkpoint), or a name from bifpn weights --list.",
        required=True,
    )
    flags.DEFINE_list(
        "class_names", None, "Classes of a file that does not name them, in the order of outputs."
    )
    flags.DEFINE_string("step", "", "Checkpoint: best, latest or a step; best if there is one.")
    flags.DEFINE_bool("ema", True, "Averaged weights; --noema takes the raw ones.")
    flags.DEFINE_enum(
        "nms", None, sorted(SCORE_THRESHOLDS), "Kind of NMS; by default as in the run's config."
    )
    define_trust_flag()
    flags.DEFINE_string(
        "image_hw",
        None,
        "Height and width of the network's input in pixels, 512,640, or one number for a square; "
        "by default the model's own.",
    )


def define_trust_flag() -> None:
    """Define ``--trust_code``."""
    flags.DEFINE_bool(
        "trust_code",
        False,
        "Run code in files that weights or a workdir name as parts, FILE.py:NAME.",
    )


def load_from_flags() -> Detector:
    """Load the detector that the command line names, with its settings."""
    given = flags.FLAGS
    step = given.step or None
    if step not in (None, "best", "latest"):
        if not step.isdecimal():
            raise UserError(f"--step={step}: give best, latest or the number of a step.")
        step = int(step)
    image_hw = parse_image_hw(given.image_hw, "image_hw") if given.image_hw else None
    settings: dict[str, Any] = {}
    if given.nms:
        settings["nms_method"] = given.nms
    if image_hw:
        settings["image_hw"] = image_hw
    return load_detector(
        given.weights,
        given.model,
        step=step,
        ema=given.ema,
        class_names=given.class_names or (),
        trust_code=given.trust_code,
        **settings,
    )


def run_config(detector: Detector) -> ConfigDict:
    """Return the complete config of the run that trained a detector.

    Fields that an earlier version lacked get the values of that time. For a detector without a
    training run, it is the config of its model.
    """
    saved = detector.config
    name = saved.get("model", {}).get("name", "d0")
    config = base.get_config(name if name in MODELS else "d0")
    config.update_from_flattened_dict(ADDED_FIELDS)
    complete = config.to_dict()
    for field, value in saved.items():
        is_group = isinstance(value, Mapping) and isinstance(complete.get(field), Mapping)
        complete[field] = {**complete[field], **value} if is_group else value
    return ConfigDict(complete)
