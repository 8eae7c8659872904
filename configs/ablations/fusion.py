"""Fusion of features (paper section 3.3, Tables 5 and 6, Figure 5): weights per edge or none.

python -m experiments.sweep --config=configs/ablations/fusion.py --workdir=DIR
python -m experiments.sweep --config=configs/ablations/fusion.py:shapes --workdir=DIR
"""

from ml_collections import ConfigDict

from bifpn_jax.models.fusion import NORMALIZERS
from configs.ablations import base


def get_config(arg: str | None = None) -> ConfigDict:
    """D0, the smallest of the three models of Table 6; see `configs.ablations.base`."""
    return base.get_config("fusion", "d0", arg)


def sweep(arg: str | None = None) -> base.Rows:
    """A row per fusion."""
    return {fusion: {"model.fusion": fusion} for fusion in NORMALIZERS}
