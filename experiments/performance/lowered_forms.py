"""Times what each form of an operation in `bifpn_jax/ops` gains over the plain one.

    python -m experiments.performance.lowered_forms --model=d0 --rounds=10

A form that `ops` lowers for the platform, or a gradient that it defines, is replaced by the plain
operation with JAX's own gradient, one form at a time. All programs are compiled in one process and
take turns; each turn gives one ratio, the time with the plain form over the time as it is.
"""

import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
from absl import flags
from jax import lax

from bifpn_jax.command_line import command
from bifpn_jax.errors import UserError
from bifpn_jax.losses import detection
from bifpn_jax.models import feature_network, layers
from bifpn_jax.models.initial_values import init_variables
from bifpn_jax.models.scaling import MODELS
from bifpn_jax.ops import batch_norm, convolution
from bifpn_jax.recipe import base
from bifpn_jax.train import devices
from experiments.paper import counts
from experiments.performance import programs
from experiments.performance.contest import OURS, take_turns

FLAGS = flags.FLAGS

Array = jax.Array


class Form(NamedTuple):
    """A form: where the model finds the operation, and what is plain in its place."""

    module: ModuleType
    name: str
    plain: Callable[..., Any]


def _thin_conv(stride: int, padding: str) -> Callable[[Array, Array], Array]:
    return lambda x, kernel: convolution._native_conv(x, kernel, stride=stride, padding=padding)


def _depthwise(x: Array, kernel: Array, *, stride: int = 1, padding: str = "same") -> Array:
    return convolution._native_depthwise(x, kernel, stride=stride, padding=padding)


def _max_pool(x: Array, *, window: int, stride: int, padding: str = "same") -> Array:
    return convolution._native_max_pool(x, window=window, stride=stride, padding=padding)


def _batch_normalize(
    x: Array,
    scale: Array,
    bias: Array,
    epsilon: float,
    axis_name: str | None = None,
    activation: Callable[[Array], Array] | None = None,
    group: int = 0,
) -> tuple[Array, Array, Array]:
    (y, mean, var), _ = batch_norm._forward(x, scale, bias, epsilon, axis_name, activation, group)
    return y, lax.stop_gradient(mean), lax.stop_gradient(var)


FORMS = {
    "thin_conv": Form(convolution, "_thin_conv", _thin_conv),
    "depthwise_conv": Form(convolution, "depthwise_conv", _depthwise),
    "max_pool": Form(feature_network, "max_pool", _max_pool),
    "gated_conv": Form(convolution, "gated_conv", convolution._native_gated_conv),
    "biased_conv": Form(convolution, "biased_conv", convolution._native_biased_conv),
    "batch_normalize": Form(layers, "batch_normalize", _batch_normalize),
    "total": Form(detection, "total", jnp.sum),
}


@contextmanager
def plain(name: str) -> Iterator[None]:
    """Programs that are compiled inside have the plain form of one of `FORMS`."""
    form = FORMS[name]
    with mock.patch.object(form.module, form.name, form.plain):
        yield


def gains(
    name: str,
    forms: Mapping[str, Form],
    *,
    batch_size: int,
    train_batch_size: int,
    rounds: int,
) -> dict[str, dict[str, list[float]]]:
    """Ratios of times, plain over as it is: {"forward": {form: […]}, "training step": …}.

    Args:
        name: key of `MODELS`.
        forms: those to try.
        batch_size: images of a forward pass.
        train_batch_size: images of a training step.
        rounds: how often each is timed, after two rounds that do not count.
    """
    config = base.get_config(name)
    model = counts.model_of(config, counts.COCO_OUTPUTS)
    variables = init_variables(model, config.seed)
    made = {
        "forward": lambda: programs.forward(model, variables, batch_size),
        "training step": lambda: programs.training_step(config, model, train_batch_size),
    }
    found = {}
    for what, make in made.items():
        print(f"{what}: compiles {len(forms) + 1} programs …", file=sys.stderr, flush=True)
        contestants = {OURS: make()}
        contestants[OURS]()
        for form in forms:
            contestants[form] = make()
            with plain(form):  # The first call compiles.
                contestants[form]()
        seconds = take_turns(contestants, rounds, warmup=1)
        ours = seconds.pop(OURS)
        found[what] = {
            form: [a / b for a, b in zip(times, ours, strict=True)]
            for form, times in seconds.items()
        }
    return found


def to_markdown(found: Mapping[str, Mapping[str, list[float]]]) -> str:
    """A table with the medians, and the quartiles in brackets."""
    lines = [f"| form | {' | '.join(found)} |", f"|---|{'---|' * len(found)}"]
    for form in next(iter(found.values())):
        cells = []
        for ratios in found.values():
            low, middle, high = statistics.quantiles(ratios[form], n=4)
            cells.append(f"{middle:.2f} ({low:.2f} – {high:.2f})")
        lines.append(f"| `{form}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(_: list[str]) -> None:
    """Run the command."""
    if FLAGS.model not in MODELS:
        raise UserError(f"--model: there is no {FLAGS.model}; there are {', '.join(MODELS)}.")
    for form in FLAGS.forms:
        if form not in FORMS:
            raise UserError(f"--forms: there is no {form}; there are {', '.join(FORMS)}.")
    found = gains(
        FLAGS.model,
        {form: FORMS[form] for form in FLAGS.forms},
        batch_size=FLAGS.batch_size,
        train_batch_size=FLAGS.train_batch_size,
        rounds=FLAGS.rounds,
    )
    print(f"{FLAGS.model} on {devices.device_name()}: time with the plain form / as it is\n")
    print(to_markdown(found))


if __name__ == "__main__":
    flags.DEFINE_string("model", "d0", "A released model.")
    flags.DEFINE_list("forms", list(FORMS), "The forms to try.")
    flags.DEFINE_integer("batch_size", 1, "Images of a forward pass.", lower_bound=1)
    flags.DEFINE_integer("train_batch_size", 2, "Images of a training step.", lower_bound=1)
    flags.DEFINE_integer("rounds", 10, "Timed rounds.", lower_bound=2)
    command.run(main)
