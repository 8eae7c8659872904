"""Learning rate over the steps of a run: linear warm-up, then a decay (arXiv 1911.09070, §5.1).

The cosine of the published code is not offset by the warm-up: its angle follows the absolute step,
so the rate drops a little when the warm-up ends, reaches zero one warm-up before the end of the run
and then rises a little. It is the default, because the published models were trained with it;
``offset_cosine=True`` gives the continuous curve, which ends at exactly zero.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import optax

from bifpn_jax.errors import UserError
from bifpn_jax.named_parts import Parts, bind_known, reported

Rate = Callable[..., jax.Array]


def cosine(
    step: jax.Array,
    *,
    peak: float,
    total_steps: int,
    warmup_steps: int,
    offset_cosine: bool = False,
) -> jax.Array:
    """Half a cosine from the peak to zero; for `offset_cosine` see the top of this module."""
    length = total_steps - warmup_steps
    end = total_steps if offset_cosine else length
    remaining = end - step
    if offset_cosine:
        remaining = jnp.maximum(remaining, 0)
    # ½(1 + cos πx) = sin²(π(1 - x)/2), which keeps its digits near zero and is exactly 0 there.
    return peak * jnp.sin(0.5 * jnp.pi * remaining.astype(jnp.float32) / length) ** 2


def drops(
    step: jax.Array,
    *,
    peak: float,
    total_steps: int,
    drops: tuple[tuple[float, float], ...] = ((2 / 3, 0.1), (5 / 6, 0.01)),
) -> jax.Array:
    """Multiply the peak by a factor from each of `drops`, (fraction of the run, factor), on.

    The default is the published one: 0.1 from epoch 200 of 300, 0.01 from epoch 250.
    """
    rate = jnp.float32(peak)
    for fraction, factor in drops:
        rate = jnp.where(step >= round(fraction * total_steps), peak * factor, rate)
    return rate


def constant(step: jax.Array, *, peak: float) -> jax.Array:
    """Stay at the peak."""
    return jnp.float32(peak)


# The rate after the warm-up: a function of the step, an int32 array, that has any of the keyword
# arguments peak, total_steps, warmup_steps and offset_cosine. For a custom one, set
# `schedule.decay=FILE.py:NAME`.
DECAYS = Parts("decay", {"cosine": cosine, "step": drops, "constant": constant})


def peak_learning_rate(batch_size: int, base: float = 0.08) -> float:
    """Return the peak rate for a global batch size; `base` is the rate at batch size 64."""
    return base * batch_size / 64


def learning_rate(
    step: jax.typing.ArrayLike,
    *,
    peak: float,
    total_steps: int,
    warmup_steps: int,
    warmup_init: float = 0.008,
    decay: str | Rate = "cosine",
    **settings: object,
) -> jax.Array:
    """Return the learning rate at `step`, a float32 scalar.

    Args:
        step: number of updates already made, an integer, traced or not.
        peak: rate at the end of the warm-up.
        total_steps: length of the run.
        warmup_steps: length of the linear warm-up, part of `total_steps`; 0 for none.
        warmup_init: rate at step 0 of the warm-up.
        decay: key of `DECAYS`, or a function as described there.
        **settings: settings of the decay; those that it does not take are ignored.
    """
    step = jnp.asarray(step, jnp.int32)
    settings |= {"peak": peak, "total_steps": total_steps, "warmup_steps": warmup_steps}
    after = jnp.asarray(bind_known(DECAYS.find(decay), settings)(step), jnp.float32)
    if not warmup_steps:
        return after
    progress = step.astype(jnp.float32) / warmup_steps
    warmup = warmup_init + (peak - warmup_init) * progress
    return jnp.where(step < warmup_steps, warmup, after).astype(jnp.float32)


def longest_warmup(
    total_steps: int, decay: str | Rate = "cosine", offset_cosine: bool = False
) -> int:
    """Return the longest warm-up, in steps, after which the rate still falls or stays."""
    if decay == "cosine" and not offset_cosine:
        return max(0, total_steps - 1) // 2
    return max(0, total_steps - 1)


def make_schedule(
    *,
    peak: float,
    total_steps: int,
    warmup_steps: int,
    decay: str | Rate = "cosine",
    offset_cosine: bool = False,
    **settings: object,
) -> optax.Schedule:
    """Return `learning_rate` as a function of the step alone, after checking its settings.

    Takes the keywords of `learning_rate`.

    Raises:
        UserError: the settings give no sensible curve.
    """
    DECAYS.find(decay)
    if not 0 <= warmup_steps < total_steps:
        raise UserError(
            f"learning rate schedule: a warm-up of {warmup_steps} steps does not fit in a run of "
            f"{total_steps} steps; shorten the warm-up or lengthen the run"
        )
    if warmup_steps > longest_warmup(total_steps, decay, offset_cosine):
        raise UserError(
            f"learning rate schedule: the published cosine with a warm-up of {warmup_steps} of "
            f"{total_steps} steps would only rise after it; keep the warm-up under half of the run "
            "or set offset_cosine=True"
        )
    schedule = partial(
        learning_rate,
        peak=peak,
        total_steps=total_steps,
        warmup_steps=warmup_steps,
        decay=decay,
        offset_cosine=offset_cosine,
        **settings,
    )
    if decay not in DECAYS:
        middle = (warmup_steps + total_steps) // 2
        _try_out(decay, schedule, (warmup_steps, middle, total_steps - 1))
    return schedule


def _try_out(decay: str | Rate, schedule: optax.Schedule, steps: Sequence[int]) -> None:
    """Raise a UserError unless a custom decay returns learning rates, also when it is traced."""
    with reported(f"decay {decay}"):
        traced = jax.eval_shape(schedule, jax.ShapeDtypeStruct((), jnp.int32))
        if traced.shape:
            raise UserError(f"decay {decay} returns {list(traced.shape)}; return a number.")
        rates = [float(schedule(step)) for step in steps]
    for step, rate in zip(steps, rates, strict=True):
        if not 0 <= rate < math.inf:
            raise UserError(f"decay {decay} returns {rate} at step {step}; return 0 or more.")
