"""EfficientDet-D3. Published: AP 0.472 on COCO test-dev, 0.468 on val;
12 M parameters, 25 B multiply-adds.

python -m experiments.main --config=configs/d3.py --workdir=runs/d3
"""

from ml_collections import ConfigDict

from bifpn_jax.recipe import base


def get_config(arg: str | None = None) -> ConfigDict:
    """See `bifpn_jax.recipe.base`."""
    return base.get_config("d3", arg)
