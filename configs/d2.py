"""EfficientDet-D2. Published: AP 0.439 on COCO test-dev, 0.435 on val;
8.1 M parameters, 11 B multiply-adds.

python -m experiments.main --config=configs/d2.py --workdir=runs/d2
"""

from ml_collections import ConfigDict

from bifpn_jax.recipe import base


def get_config(arg: str | None = None) -> ConfigDict:
    """See `bifpn_jax.recipe.base`."""
    return base.get_config("d2", arg)
