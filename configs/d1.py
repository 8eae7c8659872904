"""EfficientDet-D1. Published: AP 0.405 on COCO test-dev, 0.402 on val;
6.6 M parameters, 6.1 B multiply-adds.

python -m experiments.main --config=configs/d1.py --workdir=runs/d1
"""

from ml_collections import ConfigDict

from bifpn_jax.recipe import base


def get_config(arg: str | None = None) -> ConfigDict:
    """See `bifpn_jax.recipe.base`."""
    return base.get_config("d1", arg)
