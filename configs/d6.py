"""EfficientDet-D6. Published: AP 0.526 on COCO test-dev, 0.522 on val;
52 M parameters, 226 B multiply-adds.

python -m experiments.main --config=configs/d6.py --workdir=runs/d6
"""

from ml_collections import ConfigDict

from bifpn_jax.recipe import base


def get_config(arg: str | None = None) -> ConfigDict:
    """See `bifpn_jax.recipe.base`."""
    return base.get_config("d6", arg)
