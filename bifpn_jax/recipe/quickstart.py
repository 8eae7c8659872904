"""A small EfficientDet on drawn shapes: the whole path in minutes on a laptop's CPU.

    bifpn train --config=quickstart --workdir=runs/quickstart

It is the published architecture with a narrower backbone, fewer cells and a smaller input, and a
recipe for a short run from scratch: AdamW, mild jitter, a cosine that ends at zero.
"""

from ml_collections import ConfigDict

from bifpn_jax.recipe import base


def get_config(arg: str | None = None) -> ConfigDict:
    """See `bifpn_jax.recipe.base`."""
    config = base.get_config("d0")
    config.name = "quickstart"
    config.model.update(
        {
            "backbone": "nano",
            "image_hw": (96, 96),
            "width": 48,
            "network_repeats": 2,
            "head_repeats": 2,
            "max_level": 5,
            "anchor_scale": 2.0,
        }
    )
    config.data.source = "shapes"
    config.augment.jitter = (0.8, 1.25)
    config.train.update({"batch_size": 16, "epochs": 20.0})
    config.optimizer.update({"name": "adamw", "weight_decay": 1e-2})
    config.schedule.update(
        {"base_rate": 0.02, "warmup_epochs": 0.5, "warmup_init": 0.0, "offset_cosine": True}
    )
    config.eval.update({"every_epochs": 5.0, "batch_size": 20})
    config.checkpoint.every_epochs = 5.0
    base.apply_switches(config, arg)
    return config
