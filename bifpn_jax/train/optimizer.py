"""The published optimizer: SGD with momentum, L2 on kernels, two clips; and the weight average.

In the published code the L2 term is part of the loss, so its gradient (the decay times the weight)
is added before the clipping. The clipping is double: every gradient to a norm of at most 10, then
all of them together to a global norm of at most 10.
"""

import difflib
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax

from bifpn_jax.errors import UserError

OPTIMIZERS = ("sgd", "adamw")


def make_optimizer(
    schedule: optax.Schedule,
    params: Any,
    *,
    name: str = "sgd",
    momentum: float = 0.9,
    weight_decay: float = 4e-5,
    clip_norm: float | None = 10.0,
    clip_each_norm: float | None = 10.0,
    freeze: str | None = None,
) -> optax.GradientTransformation:
    """The whole update as one optax transformation.

    The optimizer state has the same structure whatever is frozen or clipped, so a run can be
    resumed with other settings of those.

    Args:
        schedule: learning rate as a function of the number of updates made.
        params: tree of parameters, or of their shapes; only paths are used.
        name: "sgd" (momentum without Nesterov, decay coupled with the gradient as above) or
            "adamw" (β1 = `momentum`, decay decoupled).
        momentum: momentum of SGD, β1 of AdamW.
        weight_decay: factor of the kernels, see `decay_mask`.
        clip_norm: largest global norm of all gradients; None for no such clip.
        clip_each_norm: largest norm of each gradient, applied first; None for no such clip.
        freeze: regular expression; parameters whose path ("backbone/stem/kernel") it matches from
            the start get no update and no decay, and their gradients count in no norm.

    Raises UserError for an unknown name or a `freeze` that is no regular expression or matches no
    parameter.
    """
    if name not in OPTIMIZERS:
        raise UserError(f"optimizer: unknown name {name!r}; use one of {', '.join(OPTIMIZERS)}")
    frozen = freeze_mask(params, freeze)
    decayed = jax.tree.map(lambda kernel, ice: kernel and not ice, decay_mask(params), frozen)
    decay = optax.add_decayed_weights(weight_decay, mask=decayed)
    clip = optax.chain(
        _clip_each(clip_each_norm) if clip_each_norm is not None else optax.identity(),
        optax.clip_by_global_norm(clip_norm) if clip_norm is not None else optax.identity(),
    )
    if name == "sgd":
        direction = optax.chain(decay, clip, optax.trace(decay=momentum))
    else:
        direction = optax.chain(clip, optax.scale_by_adam(b1=momentum), decay)
    return optax.chain(
        _zero(frozen), direction, optax.scale_by_learning_rate(schedule), _zero(frozen)
    )


def decay_mask(params: Any) -> Any:
    """Tree of bools: True for kernels, the only parameters with weight decay.

    Biases, batch norm scales and fusion weights are left out.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: _path_name(path).rsplit("/", 1)[-1] == "kernel", params
    )


def freeze_mask(params: Any, freeze: str | None) -> Any:
    """Tree of bools: True where the regular expression `freeze` matches the parameter's path.

    It must match from the start of the path, not to its end: "backbone" is enough for the whole
    backbone. None freezes nothing.
    """
    if freeze is None:
        return jax.tree.map(lambda _: False, params)
    try:
        pattern = re.compile(freeze)
    except re.error as error:
        raise UserError(
            f"optimizer: freeze={freeze!r} is not a regular expression ({error})"
        ) from error
    names = [_path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    if not any(map(pattern.match, names)):
        raise UserError(
            f"optimizer: freeze={freeze!r} matches no parameter from the start of its path; "
            f"the closest are {', '.join(_closest(freeze, names))}"
        )
    return jax.tree_util.tree_map_with_path(
        lambda path, _: pattern.match(_path_name(path)) is not None, params
    )


def ema_decay(step: jax.typing.ArrayLike, decay: float = 0.9998) -> jax.Array:
    """Decay of the weight average after `step` updates: min(decay, (1 + step) / (10 + step))."""
    step = jnp.asarray(step).astype(jnp.float32)
    return jnp.minimum(jnp.float32(decay), (1 + step) / (10 + step))


def update_ema(ema: Any, new: Any, decay: jax.typing.ArrayLike) -> Any:
    """The average moved towards the new tree: decay · ema + (1 - decay) · new."""
    return optax.incremental_update(new, ema, 1 - decay)


def _clip_each(max_norm: float) -> optax.GradientTransformation:
    """Scales each gradient on its own to a norm of at most `max_norm`."""

    def clip(gradient: jax.Array) -> jax.Array:
        norm = jnp.sqrt(jnp.sum(jnp.square(gradient)))
        return gradient * (max_norm / jnp.maximum(norm, max_norm))

    return optax.stateless(lambda updates, params: jax.tree.map(clip, updates))


def _zero(mask: Any) -> optax.GradientTransformation:
    """Sets the updates under a True of the mask to zero."""
    return optax.stateless(
        lambda updates, params: jax.tree.map(
            lambda update, zero: jnp.zeros_like(update) if zero else update, updates, mask
        )
    )


def _path_name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _closest(pattern: str, names: list[str]) -> list[str]:
    """Up to three paths, or beginnings of paths, that look like the pattern."""
    parts = [name.split("/") for name in names]
    beginnings = {
        "/".join(part[:depth]): None for part in parts for depth in range(1, len(part) + 1)
    }
    plain = re.sub(r"[\\^$.*+?()\[\]{}|]", "", pattern).rstrip("/")
    return difflib.get_close_matches(plain, beginnings, n=3, cutoff=0.3) or sorted(beginnings)[:3]
