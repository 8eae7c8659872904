"""Shared by the studies: the paper's scale on COCO, and a small one on drawn shapes.

A study's file has `get_config(arg)` and `sweep(arg)`, the rows of its table: name -> the fields
that the row sets. The word "shapes" after the colon chooses the small scale, on which a whole study
runs on a laptop's CPU; its results hold for small models on easy images.
"""

from typing import Any

from ml_collections import ConfigDict

from bifpn_jax.recipe import base, quickstart

Rows = dict[str, dict[str, Any]]


def get_config(study: str, model: str, arg: str | None = None) -> ConfigDict:
    """Return the config that a study varies.

    Args:
        study: name of the study.
        model: released model for the paper's scale.
        arg: "shapes" for the small scale, and switches of `bifpn_jax.recipe.base`.
    """
    config = small_config() if is_small(arg) else base.get_config(model)
    config.study = config.name = study
    config.checkpoint.keep_latest = 1
    rest = [word for word in base.split_words(arg) if word != "shapes"]
    base.apply_switches(config, ",".join(rest), ["shapes"])
    return config


def is_small(arg: str | None) -> bool:
    """Whether the small scale is requested."""
    return "shapes" in base.split_words(arg)


def small_config() -> ConfigDict:
    """Return a config with five levels at 96 pixels, a nano backbone and a schedule of minutes.

    As in the paper, runs are meant to start from one trained backbone, by `init_from` and
    `init_only=backbone`; the schedule is too short to train from scratch.
    """
    config = quickstart.get_config()
    config.model.update(
        {
            "width": 32,
            "network_repeats": 2,
            "head_repeats": 1,
            "max_level": 7,
            "batch_norm_momentum": 0.97,  # statistics of a few hundred steps
        }
    )
    config.data.shapes.num_eval = 300
    config.train.epochs = 4.0
    config.schedule.base_rate = 0.04
    config.eval.every_epochs = config.checkpoint.every_epochs = 4.0
    config.log.update({"every_steps": 25})
    return config
