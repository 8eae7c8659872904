"""The published optimizer: SGD with momentum, L2 on kernels, two clips; and the weight average.

In the published code the L2 term is part of the loss, so its gradient (the decay times the weight)
is added before the clipping. There are two clips: each gradient to a norm of at most 10, then all
of them together to a global norm of at most 10.
"""

import difflib
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from bifpn_jax.errors import UserError
from bifpn_jax.named_parts import Parts, call_with_known, reported


def sgd(
    decay: optax.GradientTransformation, clip: optax.GradientTransformation, momentum: float
) -> optax.GradientTransformation:
    """Momentum without Nesterov; the decay is part of the gradient, as published."""
    return optax.chain(decay, clip, optax.trace(decay=momentum))


def adamw(
    decay: optax.GradientTransformation, clip: optax.GradientTransformation, momentum: float
) -> optax.GradientTransformation:
    """Adam with decoupled decay (arXiv 1711.05101); β1 is the momentum."""
    return optax.chain(clip, optax.scale_by_adam(b1=momentum), decay)


# The update before the learning rate: a function that returns an optax transformation and has any
# of these arguments: `decay`, which adds the weight decay of the kernels, `clip`, which clips
# gradients, and `momentum`. For a custom one, set `optimizer.name=FILE.py:NAME`.
OPTIMIZERS = Parts("optimizer", {"sgd": sgd, "adamw": adamw})


def make_optimizer(
    schedule: optax.Schedule,
    params: Any,
    *,
    name: str | Callable[..., optax.GradientTransformation] = "sgd",
    momentum: float = 0.9,
    weight_decay: float = 4e-5,
    clip_norm: float | None = 10.0,
    clip_each_norm: float | None = 10.0,
    freeze: str | None = None,
) -> optax.GradientTransformation:
    """Make the complete update as one optax transformation.

    The structure of the optimizer state does not depend on freezing or clipping, so a run can be
    resumed with other settings of those.

    Args:
        schedule: learning rate as a function of the number of updates made.
        params: tree of parameters, or of their shapes; only paths are used.
        name: key of `OPTIMIZERS`, or a function as described there.
        momentum: momentum of SGD, β1 of AdamW.
        weight_decay: factor of the kernels, see `decay_mask`.
        clip_norm: maximum global norm of the gradients; None for no such clip.
        clip_each_norm: maximum norm of each gradient, applied first; None for no such clip.
        freeze: regular expression; parameters whose path ("backbone/stem/kernel") it matches from
            the start get no update and no decay, and their gradients do not count in any norm.

    Raises:
        UserError: the name is unknown, or `freeze` is not a regular expression or matches no
            parameter.
    """
    kind = OPTIMIZERS.find(name)
    frozen = freeze_mask(params, freeze)
    decayed = jax.tree.map(lambda kernel, fixed: kernel and not fixed, decay_mask(params), frozen)
    decay = optax.add_decayed_weights(weight_decay, mask=decayed)
    parts = {"decay": decay, "clip": _clip(clip_each_norm, clip_norm), "momentum": momentum}
    if name not in OPTIMIZERS:
        _try_out(name, kind, momentum)
    direction = call_with_known(kind, parts)
    return optax.chain(
        _zero(frozen), direction, optax.scale_by_learning_rate(schedule), _zero(frozen)
    )


def _try_out(name: Any, kind: Callable[..., Any], momentum: float) -> None:
    """Raise a UserError unless the updates of a custom optimizer follow the gradient."""
    parts = {"decay": optax.identity(), "clip": optax.identity(), "momentum": momentum}
    params, gradients = {"kernel": jnp.ones((2, 3))}, {"kernel": jnp.full((2, 3), 0.5)}
    with reported(f"optimizer {name}"):
        direction = call_with_known(kind, parts)
        if not isinstance(direction, optax.GradientTransformation):
            raise UserError(
                f"optimizer {name} returns {type(direction).__name__}, not an optax transformation."
            )
        updates, _ = direction.update(gradients, direction.init(params), params)
        uphill = bool(jnp.sum(updates["kernel"]) < 0)
    if uphill:
        raise UserError(
            f"optimizer {name} returns updates against the gradient: it must leave out the "
            "learning rate, as optax.scale_by_adam does and optax.adam does not."
        )


def decay_mask(params: Any) -> Any:
    """Return a tree of bools: True for kernels, the only parameters with weight decay.

    Biases, batch norm scales and fusion weights have none.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: _path_name(path).rsplit("/", 1)[-1] == "kernel", params
    )


def freeze_mask(params: Any, freeze: str | None) -> Any:
    """Return a tree of bools: True if the regular expression `freeze` matches a parameter's path.

    It must match from the start of the path, but not to its end: "backbone" freezes the whole
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
    if all(map(pattern.match, names)):
        raise UserError(
            f"optimizer: freeze={freeze!r} matches every parameter, so that nothing is trained; "
            "name a part, such as backbone"
        )
    return jax.tree_util.tree_map_with_path(
        lambda path, _: pattern.match(_path_name(path)) is not None, params
    )


def ema_decay(step: jax.typing.ArrayLike, decay: float = 0.9998) -> jax.Array:
    """Return the averages' decay after `step` updates: min(decay, (1 + step) / (10 + step))."""
    step = jnp.asarray(step).astype(jnp.float32)
    return jnp.minimum(jnp.float32(decay), (1 + step) / (10 + step))


def update_ema(ema: Any, new: Any, decay: jax.typing.ArrayLike) -> Any:
    """Move the average towards the new tree: decay · ema + (1 - decay) · new."""
    return optax.incremental_update(new, ema, 1 - decay)


def _clip(max_each: float | None, max_all: float | None) -> optax.GradientTransformation:
    """Scale each gradient to a norm of at most `max_each`, then all to one of `max_all` together.

    The norms after the first clip follow from those before it, so every gradient is read once. The
    factors are one scalar per gradient, not entries of a vector: gradients of the same shape then
    share code, which XLA compiles once.
    """

    # Jitted, because JAX traces such a function once per shape, not once per gradient.
    @jax.jit
    def square_sum(gradient: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(gradient))

    @jax.jit
    def first_scale(square: jax.Array) -> jax.Array:
        if max_each is None:
            return jnp.ones((), square.dtype)
        return max_each / jnp.maximum(jnp.sqrt(square), max_each)

    def clip(gradients: Any, params: Any) -> Any:
        leaves, structure = jax.tree.flatten(gradients)
        squares = [square_sum(leaf) for leaf in leaves]
        scales = [first_scale(square) for square in squares]
        if max_all is not None:
            clipped = jnp.stack(squares) * jnp.square(jnp.stack(scales))
            norm = jnp.sqrt(jnp.sum(clipped))
            common = max_all / jnp.maximum(norm, max_all)
            scales = [scale * common for scale in scales]
        return structure.unflatten([a * b for a, b in zip(leaves, scales, strict=True)])

    return optax.stateless(clip)


def _zero(mask: Any) -> optax.GradientTransformation:
    """Set the updates to zero where the mask is True."""
    return optax.stateless(
        lambda updates, params: jax.tree.map(
            lambda update, zero: jnp.zeros_like(update) if zero else update, updates, mask
        )
    )


def _path_name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _closest(pattern: str, names: list[str]) -> list[str]:
    """Return up to three paths, or beginnings of paths, that resemble the pattern."""
    parts = [name.split("/") for name in names]
    beginnings = {
        "/".join(part[:depth]): None for part in parts for depth in range(1, len(part) + 1)
    }
    plain = re.sub(r"[\\^$.*+?()\[\]{}|]", "", pattern).rstrip("/")
    return difflib.get_close_matches(plain, beginnings, n=3, cutoff=0.3) or sorted(beginnings)[:3]
