"""EfficientDet-Lite2. Published: AP 0.351 on COCO val;
5.3 M parameters, 3.4 B multiply-adds.

python -m experiments.main --config=configs/lite2.py --workdir=runs/lite2
"""

from ml_collections import ConfigDict

from bifpn_jax.recipe import base


def get_config(arg: str | None = None) -> ConfigDict:
    """See `bifpn_jax.recipe.base`."""
    return base.get_config("lite2", arg)
