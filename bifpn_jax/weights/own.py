"""This project's own names: the variables' paths, `params/backbone/stem_conv/kernel`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import flax.linen as nn
import numpy as np
from flax import traverse_util

from bifpn_jax.weights.scheme import CLASSIFIER, DETECTOR, Path, Scheme

_STATISTICS = ("mean", "var")


def entries(path: Path, model: nn.Module, names: Collection[str]) -> list[str]:
    """The one name of the variable at `path` (without its collection)."""
    collection = "batch_stats" if path[-1] in _STATISTICS else "params"
    return ["/".join((collection, *path))]


def convert(arrays: Sequence[np.ndarray], path: Path) -> np.ndarray:
    """The array itself, float32."""
    return np.asarray(arrays[0], np.float32)


def flat_names(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """{"params": …, "batch_stats": …} -> {name: array}."""
    return {
        name: np.asarray(value)
        for name, value in traverse_util.flatten_dict(variables, sep="/").items()
    }


def _recognises(names: Collection[str]) -> bool:
    return any(name.startswith("params/backbone/") for name in names)


SCHEME = Scheme(
    label="bifpn_jax model",
    parts=tuple(dict.fromkeys((*DETECTOR, *CLASSIFIER))),
    recognises=_recognises,
    entries=entries,
    convert=convert,
    unused=lambda _: "",
)
