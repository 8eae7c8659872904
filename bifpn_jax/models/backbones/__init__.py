"""Backbones: one file per family, with a table of its variants, their module and published names.

A backbone is a linen module, called with (images [B, H, W, C] normalised, train), that returns its
features {level: [B, ceil(H / 2^level), ceil(W / 2^level), C_l]} for all levels from the detector's
`min_level` to its coarsest; the feature network makes those above. What is here is found by
`backbone=NAME`; one of one's own is `backbone=FILE.py:NAME`, a module class or a function that
returns a module. It is called with those of these settings that it has as parameters: `norm` and
`activation` (see `layers`), `drop` and `survival_prob` (stochastic depth), `padding`,
`expanded_features`, `remat`, and always `name`.
"""

from collections.abc import Sequence
from functools import partial

from bifpn_jax.models.backbones import efficientnet, efficientnet_names
from bifpn_jax.models.backbones.family import Family
from bifpn_jax.named_parts import Parts

FAMILIES = (Family(efficientnet.EfficientNet, efficientnet.VARIANTS, efficientnet_names.NAMES),)

BACKBONES = Parts(
    "backbone",
    {name: partial(family.module, name) for family in FAMILIES for name in family.variants},
)


def published_name(code_base: str, layer: Sequence[str], backbone: str) -> str:
    """What the files of a code base call a layer of a backbone; "" if they have no such backbone.

    Args:
        code_base: a key of `Family.names`, such as "timm".
        layer: path of the layer inside the backbone, ("block_3", "expand_conv").
        backbone: key of `BACKBONES`, or a place of code, which no code base knows.
    """
    for family in FAMILIES:
        if backbone in family.variants and code_base in family.names:
            return family.names[code_base](layer, backbone)
    return ""
