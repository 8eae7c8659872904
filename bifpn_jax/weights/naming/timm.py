"""Names and layouts of timm's ImageNet EfficientNets (PyTorch), which effdet's backbones share.

A variable here, e.g. `backbone/block_3/expand_conv/kernel`, is one entry there,
`blocks.1.1.conv_pw.weight`; kernels are transposed.
"""

import re
from collections.abc import Collection, Sequence

import flax.linen as nn
import numpy as np

from bifpn_jax.models.backbones import published_name
from bifpn_jax.weights.naming.scheme import (
    CLASSIFIER,
    COUNTERS,
    IMAGENET_HEAD,
    Path,
    Scheme,
    backbone_of,
)

# Leaves of our modules -> leaves of PyTorch's.
LEAVES = {
    "kernel": "weight",
    "bias": "bias",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}

_HEAD = {"head_conv": "conv_head", "head_bn": "bn2", "classifier": "classifier"}


def entries(path: Path, model: nn.Module, names: Collection[str] = ()) -> tuple[str, ...]:
    """The one entry that is the variable at `path` of a classifier or of a detector's backbone."""
    part, *rest = path
    if part == "backbone":
        return torch_backbone_entries("timm", rest, model)
    if part in _HEAD:
        return (f"{_HEAD[part]}.{LEAVES[path[-1]]}",)
    return ()


def torch_backbone_entries(
    code_base: str, path: Sequence[str], model: nn.Module, *, prefix: str = ""
) -> tuple[str, ...]:
    """The entry of a variable whose path starts inside the backbone; () if there is no name."""
    *layer, leaf = path
    name = published_name(code_base, layer, backbone_of(model))
    return (f"{prefix}{name}.{LEAVES[leaf]}",) if name else ()


def from_torch(arrays: Sequence[np.ndarray], path: Path) -> np.ndarray:
    """One PyTorch parameter in this project's layout, float32.

    Convolutions [out, in, kh, kw] -> [kh, kw, in, out]; depthwise ones, [C, 1, kh, kw] there,
    become [kh, kw, 1, C] by the same transposition. Dense layers [out, in] -> [in, out].
    """
    (value,) = arrays
    value = np.asarray(value, np.float32)
    if path[-1] == "kernel":
        axes = {2: (1, 0), 4: (2, 3, 1, 0)}.get(value.ndim)
        value = value if axes is None else value.transpose(axes)
    return value


def recognises(names: Collection[str]) -> bool:
    """Whether these are names of a timm EfficientNet."""
    return {"conv_stem.weight", "bn1.weight", "blocks.0.0.conv_dw.weight"} <= set(names)


def unused(name: str, head: str = r"(conv_head|bn2|classifier)\.") -> str:
    """Why an entry that no variable asked for is not needed, or "".

    Args:
        name: of the entry.
        head: regular expression of the entries of the ImageNet head.
    """
    if name.endswith("num_batches_tracked"):
        return COUNTERS
    return IMAGENET_HEAD if re.match(head, name) else ""


SCHEME = Scheme("timm EfficientNet", CLASSIFIER, recognises, entries, from_torch, unused)
