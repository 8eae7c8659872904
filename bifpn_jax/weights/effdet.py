"""Names and layouts of effdet (PyTorch) state dicts, the most common form of published weights.

A parameter here, e.g. `backbone/block_3/expand_conv/kernel`, is one entry there,
`backbone.blocks.1.1.conv_pw.weight`; convolution kernels are transposed.
"""

import re

import numpy as np

from bifpn_jax.errors import UserError
from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.models.efficientnet import BACKBONES, block_table

# Entries that hold no weights.
IGNORED = re.compile(r"(^|\.)num_batches_tracked$")

_LEAVES = {
    "kernel": "weight",
    "bias": "bias",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}


def effdet_name(path: tuple[str, ...], model: EfficientDet) -> str:
    """The state-dict name of the variable at `path` (without its collection) of `model`."""
    part, *rest = path
    if part == "backbone":
        return _backbone_name(rest, model.backbone)
    if part == "feature_network":
        return _network_name(rest, model.min_level)
    return _head_name(part, rest, model.min_level)


def from_effdet(value: np.ndarray, path: tuple[str, ...]) -> np.ndarray:
    """A state-dict entry in this project's layout, float32.

    Convolutions [out, in, kh, kw] -> [kh, kw, in, out]; depthwise ones, [C, 1, kh, kw] there,
    become [kh, kw, 1, C] by the same transposition.
    """
    value = np.asarray(value, np.float32)
    return value.transpose(2, 3, 1, 0) if path[-1] == "kernel" and value.ndim == 4 else value


def _backbone_name(rest: list[str], backbone: str) -> str:
    block, *layer = rest
    if block == "stem_conv":
        return "backbone.conv_stem.weight"
    if block == "stem_bn":
        return f"backbone.bn1.{_LEAVES[layer[0]]}"
    _, blocks = block_table(BACKBONES[backbone])
    where = blocks[int(block.removeprefix("block_"))]
    if where.expand != 1:
        names = {
            "expand_conv": "conv_pw",
            "expand_bn": "bn1",
            "depthwise_conv": "conv_dw",
            "depthwise_bn": "bn2",
            "project_conv": "conv_pwl",
            "project_bn": "bn3",
        }
    else:
        names = {
            "depthwise_conv": "conv_dw",
            "depthwise_bn": "bn1",
            "project_conv": "conv_pw",
            "project_bn": "bn2",
        }
    if layer[0] == "squeeze_excite":
        name = {"reduce": "se.conv_reduce", "expand": "se.conv_expand"}[layer[1]]
    else:
        name = names[layer[0]]
    return f"backbone.blocks.{where.stage}.{where.index}.{name}.{_LEAVES[layer[-1]]}"


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


def _head_name(head: str, rest: list[str], min_level: int) -> str:
    net = {"class_head": "class_net", "box_head": "box_net"}[head]
    leaf = _LEAVES[rest[-1]]
    if rest[0] == "predictor":
        return f"{net}.predict.{_separable(rest[1])}.{leaf}"
    if match := re.fullmatch(r"bn_(\d+)_level_(\d+)", rest[0]):
        return f"{net}.bn_rep.{match[1]}.{int(match[2]) - min_level}.bn.{leaf}"
    return f"{net}.conv_rep.{rest[0].removeprefix('conv_')}.{_separable(rest[1])}.{leaf}"


def _separable(part: str) -> str:
    return {"depthwise": "conv_dw", "pointwise": "conv_pw"}[part]


def check_is_effdet(names: set[str]) -> None:
    """Raises UserError unless the names look like an effdet detector's."""
    for prefix in ("backbone.conv_stem.", "fpn.cell.", "class_net.", "box_net."):
        if not any(name.startswith(prefix) for name in names):
            first = ", ".join(sorted(names)[:3]) or "none"
            raise UserError(
                f"the state dict has no entry {prefix}*, so it is not an effdet detector (its "
                f"first entries: {first}); pass a whole detector's state dict, e.g. that of "
                "tf_efficientdet_d0."
            )
