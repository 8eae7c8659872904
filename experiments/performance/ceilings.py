"""The peak performance of the machine, and how close to it each part of the network comes."""

import operator
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.models.initial_values import init_variables
from experiments.performance import programs
from experiments.performance.contest import take_turns

_SIDE = 2048  # side of the matrices
_LENGTH = 2**26  # floats, larger than any cache


class Ceilings(NamedTuple):
    """Peak performance, measured on the device that JAX uses.

    Attributes:
        flops: floating-point operations per second of a large float32 matrix product.
        bandwidth: bytes per second of a sum of two large arrays, read and written.
    """

    flops: float
    bandwidth: float


class Share(NamedTuple):
    """How a part of a forward pass uses the machine.

    Attributes:
        part: its name.
        seconds: median of the rounds.
        flops: number of operations, by XLA's count.
        bytes: bytes read and written, by XLA's count.
    """

    part: str
    seconds: float
    flops: float
    bytes: float


def measure_ceilings(rounds: int) -> Ceilings:
    """Return the best of several rounds of each."""
    matrix = jax.random.normal(jax.random.key(0), (_SIDE, _SIDE))
    vector = jnp.ones(_LENGTH)
    product = _best(jax.jit(jnp.dot), (matrix, matrix), rounds)
    total = _best(jax.jit(lambda a, b: a + 2 * b), (vector, vector), rounds)
    return Ceilings(2 * _SIDE**3 / product, 3 * 4 * _LENGTH / total)


def measure_shares(model: EfficientDet, batch_size: int, rounds: int) -> list[Share]:
    """Measure the parts of a forward pass, and the whole.

    Three programs are measured, each up to the end of a part; a part is the difference of two.
    """
    variables = init_variables(model, 0)
    images = jnp.asarray(programs.random_images(batch_size, model.image_hw), jnp.float32) / 64 - 2

    def up_to(part: str) -> Callable[..., Any]:
        def run(variables: Any, images: Any) -> Any:
            outputs, found = model.apply(variables, images, mutable=["intermediates"])
            return outputs if part == "heads" else found["intermediates"][part]

        return run

    compiled = {
        part: jax.jit(up_to(part)).lower(variables, images).compile()
        for part in ("backbone_features", "network_features", "heads")
    }
    turns = {part: _blocked(run, (variables, images)) for part, run in compiled.items()}
    seconds = take_turns(turns, rounds)
    shares, before, cost_before = [], [0.0] * rounds, {"flops": 0.0, "bytes accessed": 0.0}
    for part, run in compiled.items():
        cost = run.cost_analysis()
        took = statistics.median(map(operator.sub, seconds[part], before))
        needs = (cost[key] - cost_before[key] for key in cost_before)
        shares.append(Share(part, took, *needs))
        before, cost_before = seconds[part], {key: cost[key] for key in cost_before}
    return [*shares, Share("whole", statistics.median(before), *cost_before.values())]


def _best(run: Callable[..., Any], arguments: tuple[Any, ...], rounds: int) -> float:
    """Return the seconds of the fastest round, after one that compiles."""
    return min(take_turns({"run": _blocked(run, arguments)}, rounds, warmup=1)["run"])


def _blocked(run: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[[], object]:
    return lambda: jax.block_until_ready(run(*arguments))
