"""Backbones: one file per family, with a table of its variants and their module.

A backbone is a linen module, called with (images [B, H, W, C] normalised, train), that returns its
features {level: [B, ceil(H / 2^level), ceil(W / 2^level), C_l]} for all levels from the detector's
`min_level` to its coarsest; the feature network makes those above. What is here is found by
`backbone=NAME`; one of one's own is `backbone=FILE.py:NAME`, a module class or a function that
returns a module. It is called with those of these settings that it has as parameters: `norm` and
`activation` (see `layers`), `drop` and `survival_prob` (stochastic depth), `padding`,
`expanded_features`, `remat`, and always `name`.
"""

from functools import partial

from bifpn_jax.models.backbones import efficientnet
from bifpn_jax.named_parts import Parts

BACKBONES = Parts(
    "backbone",
    {name: partial(efficientnet.EfficientNet, name) for name in efficientnet.VARIANTS},
)
