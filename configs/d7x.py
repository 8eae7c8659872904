"""EfficientDet-D7x. Published: AP 0.551 on COCO test-dev, 0.544 on val;
77 M parameters, 410 B multiply-adds.

python -m experiments.main --config=configs/d7x.py --workdir=runs/d7x
"""

from ml_collections import ConfigDict

from bifpn_jax.recipe import base


def get_config(arg: str | None = None) -> ConfigDict:
    """See `bifpn_jax.recipe.base`."""
    config = base.get_config("d7x", arg)
    config.train.epochs = 600.0  # published for D7 and D7x
    return config
