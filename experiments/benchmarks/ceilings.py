"""What the machine can do at best, and how near to it each part of the network comes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.train.state import init_variables
from experiments.benchmarks import programs
from experiments.benchmarks.contest import take_turns

_SIDE = 2048  # of the matrices
_LENGTH = 2**26  # floats, beyond every cache


class Ceilings(NamedTuple):
    """Measured on the device that jax uses.

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
        seconds: of the fastest round.
        flops: operations that it needs, by XLA's own count.
        bytes: what it reads and writes, by the same.
    """

    part: str
    seconds: float
    flops: float
    bytes: float


def measure_ceilings(rounds: int) -> Ceilings:
    """The best of some rounds of each."""
    matrix = jax.random.normal(jax.random.key(0), (_SIDE, _SIDE))
    vector = jnp.ones(_LENGTH)
    product = _best(jax.jit(jnp.dot), (matrix, matrix), rounds)
    total = _best(jax.jit(lambda a, b: a + 2 * b), (vector, vector), rounds)
    return Ceilings(2 * _SIDE**3 / product, 3 * 4 * _LENGTH / total)


def measure_shares(model: EfficientDet, batch_size: int, rounds: int) -> list[Share]:
    """The parts of a forward pass, and the whole.

    Three programs are measured, each up to the end of a part; a part is the difference of two.
    """
    variables = init_variables(model, 0)
    images = jnp.asarray(programs.random_images(batch_size, model.image_hw), jnp.float32) / 64 - 2

    def up_to(part: str) -> Callable[..., Any]:
        def run(variables: Any, images: Any) -> Any:
            outputs, found = model.apply(variables, images, mutable=["intermediates"])
            return outputs if part == "heads" else found["intermediates"][part]

        return run

    shares, before = [], Share("", 0.0, 0.0, 0.0)
    for part in ("backbone_features", "network_features", "heads"):
        compiled = jax.jit(up_to(part)).lower(variables, images).compile()
        cost = compiled.cost_analysis()
        seconds = _best(compiled, (variables, images), rounds)
        so_far = Share(part, seconds, cost["flops"], cost["bytes accessed"])
        shares.append(
            Share(part, *(now - then for now, then in zip(so_far[1:], before[1:], strict=True)))
        )
        before = so_far
    return [*shares, before._replace(part="whole")]


def _best(run: Callable[..., Any], arguments: tuple[Any, ...], rounds: int) -> float:
    """Seconds of the fastest of some rounds; one before them compiles."""
    turns = {"run": lambda: jax.block_until_ready(run(*arguments))}
    return min(take_turns(turns, rounds, warmup=1)["run"])
