"""Fusion of features (paper section 3.3, Tables 5 and 6, Figure 5): weights per edge or none.

python -m experiments.sweep --config=configs/ablations/fusion.py --workdir=DIR
python -m experiments.sweep --config=configs/ablations/fusion.py:shapes --workdir=DIR
"""

from ml_collections import ConfigDict

from bifpn_jax.models.fusion import NORMALIZERS
from bifpn_jax.recipe import study


def get_config(arg: str | None = None) -> ConfigDict:
    """Return D0, the smallest of the three models of Table 6; see `bifpn_jax.recipe.study`."""
    return study.get_config("fusion", "d0", arg)


def sweep(arg: str | None = None) -> study.Rows:
    """Return a row per fusion."""
    return {fusion: {"model.fusion": fusion} for fusion in NORMALIZERS}
