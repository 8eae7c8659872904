"""EfficientDet-Lite3. Published: AP 0.388 on COCO val;
8.4 M parameters, 7.5 B multiply-adds.

python -m experiments.main --config=configs/lite3.py --workdir=runs/lite3
"""

from ml_collections import ConfigDict

from bifpn_jax.recipe import base


def get_config(arg: str | None = None) -> ConfigDict:
    """See `bifpn_jax.recipe.base`."""
    return base.get_config("lite3", arg)
