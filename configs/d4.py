"""EfficientDet-D4. Published: AP 0.497 on COCO test-dev, 0.493 on val;
21 M parameters, 55 B multiply-adds.

python -m experiments.main --config=configs/d4.py --workdir=runs/d4
"""

from ml_collections import ConfigDict

from bifpn_jax.recipe import base


def get_config(arg: str | None = None) -> ConfigDict:
    """See `bifpn_jax.recipe.base`."""
    return base.get_config("d4", arg)
