"""Gives batch norms the statistics of real images without changing what the network computes.

Weights whose batch norms were folded have placeholder statistics (mean 0, variance 1). They are
right in evaluation, but in training every layer would suddenly see other values, and what was
learned would be lost in the first steps. Here each batch norm gets the mean and variance that it
actually sees in evaluation, and a scale and offset that cancel them, so that both modes agree.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from bifpn_jax.models.layers import BatchNorm

_MOMENTS = "moments"


def calibrate_batch_norms(
    model: nn.Module, variables: dict[str, Any], batches: Iterable[np.ndarray]
) -> dict[str, Any]:
    """Return variables for the same function in evaluation, with statistics measured on images.

    Args:
        model: the network.
        variables: its {"params", "batch_stats"}.
        batches: normalised images [B, H, W, 3], all of one shape, as in training; a few dozen
            images are enough.

    Returns:
        Variables with new batch statistics, scales and offsets of all batch norms, numpy float32.

    Raises:
        ValueError: there is no batch.
    """
    measure = jax.jit(partial(_measure, model))
    total, count = None, 0
    for images in batches:
        moments = jax.device_get(measure(variables, images))
        total = moments if total is None else jax.tree.map(np.add, total, moments)
        count += 1
    if total is None:
        raise ValueError("no images to calibrate the batch norms with")
    params = traverse_util.flatten_dict(variables["params"])
    stats = traverse_util.flatten_dict(variables.get("batch_stats", {}))
    for path, (sums,) in _by_module(total).items():
        mean, mean_of_squares, positions, epsilon = sums
        mean, mean_of_squares, epsilon = mean / count, mean_of_squares / count, epsilon / count
        var = np.maximum(mean_of_squares - mean**2, 0.0)
        # The running variance is unbiased, as in training.
        var = var * positions / np.maximum(positions - count, 1)
        old = {leaf: np.asarray(params[(*path, leaf)], np.float64) for leaf in ("scale", "bias")}
        old |= {leaf: np.asarray(stats[(*path, leaf)], np.float64) for leaf in ("mean", "var")}
        factor = old["scale"] / np.sqrt(old["var"] + epsilon)
        new = {
            "scale": factor * np.sqrt(var + epsilon),
            "bias": old["bias"] + factor * (mean - old["mean"]),
        }
        params |= {(*path, leaf): np.float32(value) for leaf, value in new.items()}
        stats |= {(*path, "mean"): np.float32(mean), (*path, "var"): np.float32(var)}
    return {
        "params": traverse_util.unflatten_dict(params),
        "batch_stats": traverse_util.unflatten_dict(stats),
    }


def _measure(model: nn.Module, variables: dict[str, Any], images: jax.Array) -> Any:
    """Return {module: …: {"moments": (moments,)}} of the input of every batch norm.

    Moments are mean [C], mean of squares [C], number of positions and the batch norm's epsilon.
    """

    def note_input(
        next_call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        if isinstance(context.module, BatchNorm) and context.method_name == "__call__":
            x = args[0].astype(jnp.float32)
            axes, positions = (0, 1, 2), jnp.float32(x.size // x.shape[-1])
            means = jnp.mean(x, axes), jnp.mean(jnp.square(x), axes)
            moments = (*means, positions, jnp.float32(context.module.epsilon))
            context.module.sow(_MOMENTS, _MOMENTS, moments)
        return next_call(*args, **kwargs)

    with nn.intercept_methods(note_input):
        _, noted = model.apply(variables, images, train=False, mutable=[_MOMENTS])
    return noted[_MOMENTS]


def _by_module(moments: Any) -> dict[tuple[str, ...], Any]:
    flat = traverse_util.flatten_dict(moments)
    return {path[:-1]: value for path, value in flat.items()}
