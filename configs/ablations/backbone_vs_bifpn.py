"""The gains from the backbone and from BiFPN (paper Table 4), on EfficientNet-B3.

    python -m experiments.sweep --config=configs/ablations/backbone_vs_bifpn.py --workdir=DIR
    python -m experiments.sweep --config=configs/ablations/backbone_vs_bifpn.py:shapes --workdir=DIR

The row `retinanet_fpn` is RetinaNet with this backbone: its FPN and its heads of four ordinary
convolutions with 256 channels, at 640 pixels, which comes nearest to the paper's 21 M parameters
and 75 B operations.
The paper's first row, RetinaNet on ResNet-50, is not included: there is no ResNet here.
"""

from ml_collections import ConfigDict

from bifpn_jax.recipe import study


def get_config(arg: str | None = None) -> ConfigDict:
    """Return D3 with five cells, 12 M parameters, 24 B operations; see `bifpn_jax.recipe.study`."""
    config = study.get_config("backbone_vs_bifpn", "d3", arg)
    if not study.is_small(arg):
        config.model.network_repeats = 5
    return config


def sweep(arg: str | None = None) -> study.Rows:
    """Return rows for RetinaNet's FPN and heads, and for BiFPN."""
    retinanet = {
        "model.feature_network": "retinanet_fpn",
        "model.fusion": "sum",
        "model.network_repeats": 1,
        "model.separable": False,
        "model.separable_heads": False,
    }
    if not study.is_small(arg):
        retinanet |= {
            "model.width": 256,
            "model.head_repeats": 4,
            "model.image_hw": (640, 640),
        }
    return {"retinanet_fpn": retinanet, "bifpn": {}}
