"""EfficientDet-Lite1. Published: AP 0.315 on COCO val;
4.2 M parameters, 2.0 B multiply-adds.

python -m experiments.main --config=configs/lite1.py --workdir=runs/lite1
"""

from ml_collections import ConfigDict

from bifpn_jax.recipe import base


def get_config(arg: str | None = None) -> ConfigDict:
    """See `bifpn_jax.recipe.base`."""
    return base.get_config("lite1", arg)
