"""This project's own names, `params/backbone/stem_conv/kernel`, and what it keeps with them."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import flax.linen as nn
import numpy as np
from flax import traverse_util

from bifpn_jax.errors import UserError
from bifpn_jax.weights.naming.scheme import CLASSIFIER, DETECTOR, Path, Scheme

CONFIG_FILE = "config.json"  # in a workdir: what its run was last started with

_STATISTICS = ("mean", "var")

# What a config says of a model that does not change what its weights compute.
_NOT_OF_THE_WEIGHTS = (
    "name",
    "num_classes",
    "survival_prob",
    "batch_norm_momentum",
    "batch_norm_group",
    "remat",
    "dtype",
)


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


def saved_config(source: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The config that is kept with weights, as JSON.

    Raises:
        UserError: it is not a config.
    """
    try:
        config = json.loads(metadata["config"])
        if isinstance(config["model"], Mapping):
            return config
        problem = "its config has no model"
    except (KeyError, TypeError, ValueError) as error:
        problem = f"its config is damaged, {type(error).__name__}"
    raise not_said(source, problem)


def not_said(source: str, problem: str) -> UserError:
    """The error for weights that should say what they are of, and do not."""
    return UserError(
        f"{source} does not say which model and classes it is of ({problem}); it is damaged or not "
        "from this program, use another one."
    )


def trained_with(source: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The settings that weights were trained with, {"settings": …, "antialias": …}.

    Raises:
        UserError: their config does not say.
    """
    config = saved_config(source, metadata)
    data = config.get("data")
    antialias = isinstance(data, Mapping) and bool(data.get("antialias", False))
    return {"settings": model_settings(config), "antialias": antialias}


def model_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of `EfficientDet` with which the weights of a run were trained.

    Args:
        config: of the run, as JSON; its lists become tuples.
    """
    return {
        name: _as_tuple(value)
        for name, value in config["model"].items()
        if name not in _NOT_OF_THE_WEIGHTS
    }


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


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
