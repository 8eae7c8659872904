"""Names and layouts of effdet (PyTorch) state dicts, the most common form of published weights.

A parameter here, e.g. `backbone/block_3/expand_conv/kernel`, is one entry there,
`backbone.blocks.1.1.conv_pw.weight`; convolution kernels are transposed.

The names do not tell everything: whether the model pads like TensorFlow (`tf_efficientdet_*`) or
like PyTorch, and the epsilon of its backbone, are known from the model's name only.
"""

import re
from collections.abc import Collection

import flax.linen as nn

from bifpn_jax.weights.naming import timm
from bifpn_jax.weights.naming.scheme import COUNTERS, DETECTOR, Path, Scheme

# Entries that hold no weights.
IGNORED = re.compile(r"(^|\.)num_batches_tracked$")

_LEAVES = timm.LEAVES
_HEADS = {"class_head": "class_net", "box_head": "box_net"}


def recognises(names: Collection[str]) -> bool:
    """Whether these are names of an effdet detector with an EfficientNet backbone."""
    return {
        "backbone.conv_stem.weight",
        "fpn.cell.0.fnode.0.after_combine.conv.conv_dw.weight",
        "class_net.predict.conv_dw.weight",
        "box_net.predict.conv_dw.weight",
    } <= set(names)


def entries(path: Path, model: nn.Module, names: Collection[str] = ()) -> tuple[str, ...]:
    """The one entry that is the variable at `path` of a detector, or of a classifier's backbone.

    Args:
        path: without its collection.
        model: an `EfficientDet` or a `Classifier`.
        names: of the file's entries. They tell whether the heads' batch norms are listed by level
            first, as effdet's newer models and those prepared for TorchScript have them.
    """
    part, *rest = path
    if part == "backbone":
        return timm.torch_backbone_entries("timm", rest, model, prefix="backbone.")
    if part == "feature_network":
        return (_network_name(rest, model.min_level),)
    if part in _HEADS:
        return (_head_name(_HEADS[part], rest, model.min_level, names),)
    return ()


def unused(name: str) -> str:
    """Why an entry that no variable asked for is not needed, or ""."""
    return COUNTERS if IGNORED.search(name) else ""


def _network_name(rest: list[str], min_level: int) -> str:
    if match := re.fullmatch(r"level_(\d+)", rest[0]):
        # Levels are counted from the finest.
        return f"fpn.resample.{int(match[1]) - min_level}.conv.{rest[1]}.{_LEAVES[rest[-1]]}"
    cell = rest[0].removeprefix("cell_")
    node, _, what = rest[1].removeprefix("node_").partition("_")
    prefix = f"fpn.cell.{cell}.fnode.{node}"
    if what == "fusion":
        return f"{prefix}.combine.edge_weights"
    if what.startswith("edge_"):
        edge = what.removeprefix("edge_")
        return f"{prefix}.combine.resample.{edge}.conv.{rest[2]}.{_LEAVES[rest[-1]]}"
    if what == "bn":
        return f"{prefix}.after_combine.conv.bn.{_LEAVES[rest[-1]]}"
    return f"{prefix}.after_combine.conv.{_separable(rest[2])}.{_LEAVES[rest[-1]]}"


def _head_name(net: str, rest: list[str], min_level: int, names: Collection[str]) -> str:
    leaf = _LEAVES[rest[-1]]
    if rest[0] == "predictor":
        return f"{net}.predict.{_separable(rest[1])}.{leaf}"
    if match := re.fullmatch(r"bn_(\d+)_level_(\d+)", rest[0]):
        repeat, level = match[1], int(match[2]) - min_level
        if f"{net}.bn_rep.0.0.weight" in names:
            return f"{net}.bn_rep.{level}.{repeat}.{leaf}"
        return f"{net}.bn_rep.{repeat}.{level}.bn.{leaf}"
    return f"{net}.conv_rep.{rest[0].removeprefix('conv_')}.{_separable(rest[1])}.{leaf}"


def _separable(part: str) -> str:
    return {"depthwise": "conv_dw", "pointwise": "conv_pw"}[part]


SCHEME = Scheme(
    label="effdet detector",
    parts=DETECTOR,
    recognises=recognises,
    entries=entries,
    convert=timm.from_torch,
    unused=unused,
    antialias=True,
)
