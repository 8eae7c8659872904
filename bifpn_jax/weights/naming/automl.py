"""Names of google/automl's detectors and of TensorFlow's ImageNet EfficientNets.

A parameter here, e.g. `backbone/block_3/expand_conv/kernel`, is one variable there,
`efficientnet-b0/blocks_3/conv2d/kernel`; fusion weights are one scalar per edge there. Kernels have
the same layout but for the depthwise ones.
"""

import re
from collections.abc import Collection, Sequence

import numpy as np

from bifpn_jax.models.backbones import published_name
from bifpn_jax.models.backbones.efficientnet import Classifier
from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.models.networks import network_graph
from bifpn_jax.weights.naming.scheme import (
    DETECTOR,
    IMAGENET_HEAD,
    Path,
    Scheme,
    backbone_of,
)

# Leaves of a batch norm; convolutions and dense layers have "kernel" and "bias" there as well.
_NORM = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}

# Why an entry that no variable asked for is not needed; the first pattern that fits counts.
_UNUSED = (
    (re.compile(r"(^|/)(Momentum|Adam(_1)?|RMSProp(_1)?)$"), "optimizer state"),
    (re.compile(r"/\.OPTIMIZER_SLOT/|(^|/)_?optimizer/"), "optimizer state"),
    (re.compile(r"(^|/)(global_step|save_counter)$"), "counters of steps"),
    (re.compile(r"^efficientnet-\w+/head/"), IMAGENET_HEAD),
)
_HEAD = {
    "head_conv": "head/conv2d",
    "head_bn": "head/tpu_batch_normalization",
    "classifier": "head/dense",
}


def entries(path: Path, model: EfficientDet | Classifier, names: Collection[str]) -> list[str]:
    """Names of the variables that make up the one at `path` (without its collection)."""
    part, *rest = path
    if part == "backbone":
        return _backbone_names(rest, model)
    if part in _HEAD:
        leaf = _NORM[rest[0]] if part == "head_bn" else rest[0]
        return [f"efficientnet-{model.variant}/{_HEAD[part]}/{leaf}"]
    if part == "feature_network":
        return _network_names(rest, model)
    return [_head_name(part, rest)]


def convert(arrays: Sequence[np.ndarray], path: Path) -> np.ndarray:
    """Variables in this project's layout, float32.

    Depthwise kernels [kh, kw, C, 1] -> [kh, kw, 1, C]; fusion weights, N scalars -> [N],
    or N vectors -> [N, C].
    """
    if path[-1] == "weights":
        edges = [np.ravel(array).astype(np.float32) for array in arrays]
        lengths = {len(edge) for edge in edges}
        per_channel = len(lengths) == 1 and lengths != {1}
        return np.stack(edges) if per_channel else np.concatenate(edges)
    (value,) = arrays
    value = np.asarray(value, np.float32)
    depthwise = path[-1] == "kernel" and path[-2].startswith("depthwise")
    return value.transpose(0, 1, 3, 2) if depthwise and value.ndim == 4 else value


def unused(name: str) -> str:
    """Why a variable that no parameter asked for holds nothing that a model needs, or ""."""
    return next((reason for pattern, reason in _UNUSED if pattern.search(name)), "")


def recognises(names: Collection[str]) -> bool:
    """Whether these are names of a detector of google/automl."""
    return any(name.startswith(("fpn_cells/cell_", "class_net/class-")) for name in names)


def _backbone_names(rest: list[str], model: EfficientDet | Classifier) -> list[str]:
    *layer, leaf = rest
    name = published_name("tensorflow", layer, backbone_of(model))
    if layer[-1].endswith("_bn"):
        leaf = _NORM[leaf]
    elif layer[-1] == "depthwise_conv":
        leaf = f"depthwise_{leaf}"
    return [f"{name}/{leaf}"] if name else []


def _suffix(position: int) -> str:
    return f"_{position}" if position else ""


def _network_names(rest: list[str], model: EfficientDet) -> list[str]:
    if rest[0].startswith("level_"):
        level = rest[0].removeprefix("level_")
        return [f"resample_p{level}/{_resample_name(rest[1:])}"]
    cell = rest[0].removeprefix("cell_")
    number, what = re.fullmatch(r"node_(\d+)_(.+)", rest[1]).groups()
    scope = f"fpn_cells/cell_{cell}/fnode{number}"
    # Features are numbered on: the inputs of a cell, then its nodes.
    own_id = model.max_level - model.min_level + 1 + int(number)
    graph = network_graph(model.feature_network, model.min_level, model.max_level)
    node = graph[int(number)]
    if what == "fusion":
        return [f"{scope}/WSM{_suffix(i)}" for i in range(len(node.inputs))]
    if what.startswith("edge_"):
        source = int(what.removeprefix("edge_"))
        edge = f"resample_{node.inputs.index(source)}_{source}_{own_id}"
        return [f"{scope}/{edge}/{_resample_name(rest[2:])}"]
    scope = f"{scope}/op_after_combine{own_id}"
    if what == "bn":
        return [f"{scope}/bn/{_NORM[rest[2]]}"]
    return [f"{scope}/conv/{_separable_name(rest[2:])}"]


def _resample_name(layer: list[str]) -> str:
    return f"bn/{_NORM[layer[1]]}" if layer[0] == "bn" else f"conv2d/{layer[1]}"


def _head_name(part: str, rest: list[str]) -> str:
    kind = part.removesuffix("_head")
    scope, layer = f"{kind}_net/{kind}", rest[0]
    if layer == "predictor":
        return f"{scope}-predict/{_separable_name(rest[1:])}"
    if match := re.fullmatch(r"bn_(\d+)_level_(\d+)", layer):
        return f"{scope}-{match[1]}-bn-{match[2]}/{_NORM[rest[1]]}"
    return f"{scope}-{layer.removeprefix('conv_')}/{_separable_name(rest[1:])}"


def _separable_name(layer: list[str]) -> str:
    # The bias belongs to the pointwise convolution; ordinary convolutions have no first part.
    return layer[-1] if layer[-1] == "bias" or len(layer) == 1 else f"{layer[0]}_kernel"


SCHEME = Scheme(
    label="google/automl detector",
    parts=DETECTOR,
    recognises=recognises,
    entries=entries,
    convert=convert,
    unused=unused,
)
