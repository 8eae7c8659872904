"""EfficientDet-D7. Published: AP 0.537 on COCO test-dev, 0.534 on val;
52 M parameters, 325 B multiply-adds.

python -m experiments.main --config=configs/d7.py --workdir=runs/d7
"""

from ml_collections import ConfigDict

from bifpn_jax.recipe import base


def get_config(arg: str | None = None) -> ConfigDict:
    """See `bifpn_jax.recipe.base`."""
    config = base.get_config("d7", arg)
    config.train.epochs = 600.0  # published for D7 and D7x
    return config
