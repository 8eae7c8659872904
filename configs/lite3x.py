"""EfficientDet-Lite3x. Published: AP 0.426 on COCO val;
9.3 M parameters, 14 B multiply-adds.

python -m experiments.main --config=configs/lite3x.py --workdir=runs/lite3x
"""

from ml_collections import ConfigDict

from bifpn_jax.recipe import base


def get_config(arg: str | None = None) -> ConfigDict:
    """See `bifpn_jax.recipe.base`."""
    return base.get_config("lite3x", arg)
