"""Cross-scale connections (paper Table 5): different feature networks, same backbone and heads.

    python -m experiments.sweep --config=configs/ablations/feature_networks.py --workdir=DIR
    python -m experiments.sweep --config=configs/ablations/feature_networks.py:shapes --workdir=DIR

Rows differ in the graph, how often it is repeated, and its fusion. The paper does not state the
repeats. Its ratios of parameters and operations are reproduced, all within 0.012, by the feature
network alone with five cells of BiFPN (the released D3 has six), twice as many of the networks with
half the nodes, and a node at the coarsest level in FPN and at both ends in PANet.
"""

from ml_collections import ConfigDict

from bifpn_jax.recipe import study

# Row -> (network, fusion, repeats relative to BiFPN's).
_ROWS = {
    "fpn": ("7:4 6:3,5 5:2,6 4:1,7 3:0,8", "sum", 2),
    "panet": ("effdet_pan", "sum", 1),
    "simplified_panet": ("simplified_panet", "sum", 1),
    "nas_fpn": ("nas_fpn", "sum", 1),
    "fully_connected": ("fully_connected", "sum", 2),
    "qufpn": ("qufpn", "fast", 1),
    "bifpn_sum": ("bifpn", "sum", 1),
    "bifpn": ("bifpn", "fast", 1),
}


def get_config(arg: str | None = None) -> ConfigDict:
    """Return D3 with five cells, or one at the small scale; see `bifpn_jax.recipe.study`.

    One, because in the short schedule two cells of FPN or PANet, in which all paths from a level's
    input to its output go through nodes, hardly learn.
    """
    config = study.get_config("feature_networks", "d3", arg)
    config.model.network_repeats = 1 if study.is_small(arg) else 5
    return config


def sweep(arg: str | None = None) -> study.Rows:
    """Return a row per feature network; at the small scale all of them have fast fusion."""
    repeats = get_config(arg).model.network_repeats
    return {
        row: {
            "model.feature_network": network,
            "model.fusion": "fast" if study.is_small(arg) and row != "bifpn_sum" else fusion,
            "model.network_repeats": relative * repeats,
        }
        for row, (network, fusion, relative) in _ROWS.items()
    }
