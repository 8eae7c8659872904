"""EfficientDet-Lite4. Published: AP 0.432 on COCO val;
15 M parameters, 20 B multiply-adds.

python -m experiments.main --config=configs/lite4.py --workdir=runs/lite4
"""

from ml_collections import ConfigDict

from bifpn_jax.recipe import base


def get_config(arg: str | None = None) -> ConfigDict:
    """See `bifpn_jax.recipe.base`."""
    return base.get_config("lite4", arg)
