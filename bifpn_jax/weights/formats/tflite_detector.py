"""Unfolds the batch norms of an EfficientDet-Lite `.tflite`.

A converter folds every batch norm into the convolution before it. The result here has the names of
the checkpoints that the file was made from, `weights.naming.automl`, and computes the same: a batch
norm with mean 0, variance 1 - epsilon and scale 1 is the identity, and its offset is the folded
bias. The heads have one kernel for all levels and a batch norm per level, so their folded kernels
differ between levels by a factor per channel, which becomes the scale.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bifpn_jax.errors import UserError
from bifpn_jax.models.layers import BATCH_NORM_EPSILON
from bifpn_jax.weights.formats.format import Contents, Format
from bifpn_jax.weights.formats.tflite_file import MAGIC, Convolution, read_convolutions

Entries = dict[str, np.ndarray]

_MIN_LEVEL = 3
_SCOPE = re.compile(
    r"(?P<stem>efficientnet-lite\d/stem)(?=/)|(?P<block>efficientnet-lite\d/blocks_\d+)(?=/)"
    r"|(?P<node>fpn_cells/cell_\d+/fnode\d+/op_after_combine\d+)(?=/)"
    r"|(?P<resample>(?:fpn_cells/cell_\d+/fnode\d+/)?resample_\w+)(?=/)"
    r"|(?P<head>(?:class_net/class|box_net/box)-(?:\d+|predict))(?=/)"
)


def read_tflite(path: str | Path) -> Entries:
    """Read {name as in a checkpoint of google/automl: array} from an EfficientDet-Lite.

    Args:
        path: an int8 or float file, with raw outputs of the heads, or boxes and NMS after them.

    Raises:
        UserError: there is no such file, or no detector in it with the layout described above.
    """
    scopes: dict[tuple[str, str], list[Convolution]] = {}
    for convolution in read_convolutions(path):
        found = _SCOPE.search(convolution.name)
        if found is None:
            raise UserError(
                f"{path}: {convolution.name.split(';')[0][:80]!r} is not a part of an "
                "EfficientDet-Lite; give the .tflite of one."
            )
        scopes.setdefault((found.lastgroup, found[0]), []).append(convolution)
    kinds = {kind for kind, _ in scopes}
    if kinds != {"stem", "block", "node", "resample", "head"}:
        raise UserError(
            f"{path} holds no EfficientDet-Lite: of its parts there are only "
            f"{', '.join(sorted(kinds)) or 'none'}; give the .tflite of one."
        )
    entries: Entries = {}
    for (kind, scope), convolutions in scopes.items():
        try:
            entries |= _UNFOLD[kind](scope, convolutions)
        except ValueError as error:
            raise UserError(
                f"{path}: {scope} is not laid out as in a published EfficientDet-Lite ({error}); "
                "give a published .tflite, or the checkpoint it was made from."
            ) from error
    return entries


def _stem(scope: str, convolutions: list[Convolution]) -> Entries:
    (conv,) = convolutions
    norm = _norm(f"{scope}/tpu_batch_normalization", conv.bias)
    return {f"{scope}/conv2d/kernel": conv.kernel, **norm}


def _block(scope: str, convolutions: list[Convolution]) -> Entries:
    """Read expand, depthwise, project in execution order; block 0 has no expand."""
    if [conv.depthwise for conv in convolutions] not in ([False, True, False], [True, False]):
        raise ValueError(f"{len(convolutions)} convolutions in another order")
    entries, points = {}, 0
    for i, conv in enumerate(convolutions):
        if conv.depthwise:
            name = "depthwise_conv2d/depthwise_kernel"
        else:
            name = f"conv2d{_suffix(points)}/kernel"
            points += 1
        entries[f"{scope}/{name}"] = conv.kernel
        entries |= _norm(f"{scope}/tpu_batch_normalization{_suffix(i)}", conv.bias)
    return entries


def _resample(scope: str, convolutions: list[Convolution]) -> Entries:
    (conv,) = convolutions
    entries = {f"{scope}/conv2d/kernel": conv.kernel, f"{scope}/conv2d/bias": 0 * conv.bias}
    return entries | _norm(f"{scope}/bn", conv.bias)


def _node(scope: str, convolutions: list[Convolution]) -> Entries:
    ((depthwise, pointwise, bias),) = _separable(convolutions)
    entries = _separable_entries(f"{scope}/conv", depthwise, pointwise, 0 * bias)
    return entries | _norm(f"{scope}/bn", bias)


def _head(scope: str, convolutions: list[Convolution]) -> Entries:
    # Levels run in any order; the finest has the largest input.
    levels = sorted(_separable(convolutions, by_size=True), key=lambda level: -level[3])
    depthwise, biases = levels[0][0], [bias for _, _, bias, _ in levels]
    if any(not np.array_equal(level[0], depthwise) for level in levels):
        raise ValueError("its levels do not share their depthwise kernel")
    kernels = np.stack([kernel for _, kernel, _, _ in levels])
    if scope.endswith("-predict"):
        # No batch norm after it; int8 files round the bias separately for every level.
        return _separable_entries(scope, depthwise, kernels[0], biases[0])
    kernel, factors = _shared_kernel(kernels)
    entries = _separable_entries(scope, depthwise, kernel, 0 * biases[0])
    for i, (factor, bias) in enumerate(zip(factors, biases, strict=True)):
        entries |= _norm(f"{scope}-bn-{_MIN_LEVEL + i}", bias, factor)
    return entries


_UNFOLD = {"stem": _stem, "block": _block, "resample": _resample, "node": _node, "head": _head}


def _shared_kernel(kernels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Folded kernels [L, 1, 1, in, out] -> the shared one [1, 1, in, out] and factors [L, out].

    A channel is taken from the level where its values are largest, because quantisation hurts them
    least.
    """
    norms = np.einsum("lhwio,lhwio->lo", kernels, kernels)
    best = norms.argmax(0)
    shared = np.take_along_axis(kernels, best[None, None, None, None], 0)[0]
    dots = np.einsum("lhwio,hwio->lo", kernels, shared)
    factors = np.divide(dots, norms.max(0), out=np.zeros_like(dots), where=norms.max(0) > 0)
    error = np.abs(kernels - shared * factors[:, None, None, None]).max((0, 1, 2, 3))
    if np.any(error > 0.02 * np.abs(shared).max((0, 1, 2))):
        raise ValueError("the kernels of its levels differ by more than a factor per channel")
    return shared, factors.astype(np.float32)


def _separable(
    convolutions: Iterable[Convolution], by_size: bool = False
) -> list[tuple[np.ndarray, ...]]:
    """Pairs alternating depthwise and pointwise convolutions: (depthwise, pointwise, bias[, size]).

    A bias between them is passed through the pointwise kernel.
    """
    pairs, depthwise = [], None
    for conv in convolutions:
        if conv.depthwise != (depthwise is None):
            raise ValueError("depthwise and pointwise convolutions do not alternate")
        if conv.depthwise:
            depthwise = conv
            continue
        if depthwise.kernel.shape[2] != conv.kernel.shape[2]:
            raise ValueError("a pointwise convolution with other channels than its depthwise one")
        bias = conv.bias + depthwise.bias @ conv.kernel[0, 0]
        size = (conv.input_hw[0] * conv.input_hw[1],) if by_size else ()
        pairs.append((depthwise.kernel, conv.kernel, bias, *size))
        depthwise = None
    if depthwise is not None:
        raise ValueError("a depthwise convolution without its pointwise one")
    return pairs


def _separable_entries(
    scope: str, depthwise: np.ndarray, pointwise: np.ndarray, bias: np.ndarray
) -> Entries:
    return {
        f"{scope}/depthwise_kernel": depthwise,
        f"{scope}/pointwise_kernel": pointwise,
        f"{scope}/bias": bias,
    }


def _norm(scope: str, beta: np.ndarray, gamma: np.ndarray | float = 1.0) -> Entries:
    ones = np.ones_like(beta)
    return {
        f"{scope}/gamma": gamma * ones,
        f"{scope}/beta": beta,
        f"{scope}/moving_mean": 0 * ones,
        f"{scope}/moving_variance": (1 - BATCH_NORM_EPSILON) * ones,
    }


def _suffix(i: int) -> str:
    return f"_{i}" if i else ""


FORMAT = Format(
    kind="an EfficientDet-Lite .tflite",
    recognises=lambda path, start: start[4:8] == MAGIC,
    read=lambda path: Contents(read_tflite(path)),
    # The Lite models' files for phones were made with anchors of exactly these width / height.
    settings={"aspect_ratios": (1.0, 2.0, 0.5)},
    facts={"label": "EfficientDet-Lite .tflite", "folded": True, "antialias": True},
)
