"""EfficientDet-D0. Published: AP 0.346 on COCO test-dev, 0.343 on val;
3.9 M parameters, 2.5 B multiply-adds.

python -m experiments.main --config=configs/d0.py --workdir=runs/d0
"""

from ml_collections import ConfigDict

from bifpn_jax.recipe import base


def get_config(arg: str | None = None) -> ConfigDict:
    """See `bifpn_jax.recipe.base`."""
    return base.get_config("d0", arg)
