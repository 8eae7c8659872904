"""EfficientDet-Lite0. Published: AP 0.264 on COCO val;
3.2 M parameters, 0.98 B multiply-adds.

python -m experiments.main --config=configs/lite0.py --workdir=runs/lite0
"""

from ml_collections import ConfigDict

from bifpn_jax.recipe import base


def get_config(arg: str | None = None) -> ConfigDict:
    """See `bifpn_jax.recipe.base`."""
    return base.get_config("lite0", arg)
