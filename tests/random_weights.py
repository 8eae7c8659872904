"""Weights for tests: by a formula of the name, as in the reference data, or drawn for any model."""

import zlib
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util


def state_dict_by_formula(shapes: Iterable[tuple[str, list[int]]]) -> dict[str, np.ndarray]:
    """The state dict of the reference data for (name, shape) in torch's layout."""
    return {name: _entry(name, tuple(shape)) for name, shape in shapes}


def _entry(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    leaf = name.rpartition(".")[2]
    if leaf == "running_var":
        value = rng.uniform(0.5, 1.5, shape)
    elif leaf == "running_mean" or leaf == "bias":
        value = 0.1 * rng.standard_normal(shape)
    elif leaf == "edge_weights":
        value = rng.uniform(-0.3, 1.5, shape)
    elif leaf == "num_batches_tracked":
        value = np.zeros(shape)
    elif len(shape) == 1:
        value = rng.uniform(0.8, 1.2, shape)
    else:
        value = rng.standard_normal(shape) * np.sqrt(1.5 / np.prod(shape[1:]))
    return np.asarray(value, np.float32)


def random_variables(model: nn.Module, inputs: Any, **options: Any) -> dict[str, Any]:
    """Variables of a model, without its initialisers, whose compilation takes most of a minute.

    Args:
        model: any linen module.
        inputs: what its `__call__` takes: an array or a shape, or a dict of these.
        **options: static arguments of its `__call__`.
    """
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, **options), inputs)
    rng = np.random.default_rng(0)
    flat = {}
    for path, leaf in traverse_util.flatten_dict(shapes).items():
        if path[-1] == "kernel":
            # Depthwise [kh, kw, 1, C], or [kh, kw, in, out]: variance 1 / fan_in.
            value = rng.standard_normal(leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
        elif path[-1] in ("bias", "mean"):
            value = 0.1 * rng.standard_normal(leaf.shape)
        else:  # scale, var and fusion weights
            value = rng.uniform(0.5, 1.5, leaf.shape)
        flat[path] = np.asarray(value, np.float32)
    return traverse_util.unflatten_dict(flat)
