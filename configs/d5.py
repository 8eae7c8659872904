"""EfficientDet-D5. Published: AP 0.515 on COCO test-dev, 0.513 on val;
34 M parameters, 135 B multiply-adds.

python -m experiments.main --config=configs/d5.py --workdir=runs/d5
"""

from ml_collections import ConfigDict

from bifpn_jax.recipe import base


def get_config(arg: str | None = None) -> ConfigDict:
    """See `bifpn_jax.recipe.base`."""
    return base.get_config("d5", arg)
