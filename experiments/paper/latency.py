"""Latency of a network on this machine: one image, forward pass, float32."""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bifpn_jax.errors import UserError
from bifpn_jax.json_files import read_json, write_json
from bifpn_jax.train import devices
from experiments.paper import counts

LATENCY_FILE = "latency.json"


class Latency(NamedTuple):
    """Median milliseconds per image.

    Attributes:
        device: the device they were measured on.
        milliseconds: latency by the name of the model, "d0".
    """

    device: str
    milliseconds: dict[str, float]


def measure(names: Sequence[str], say: Callable[[str], None] = print, repeats: int = 10) -> Latency:
    """Measure released models one after another: the median of `repeats` passes after two."""
    found = {}
    for name in names:
        found[name] = _measure_one(name, repeats)
        say(f"{name}: {found[name]:.1f} ms")
    return Latency(devices.device_name(), found)


def read_latency(folder: Path) -> Latency | None:
    """Read an earlier measurement from a folder; None if there is none."""
    path = folder / LATENCY_FILE
    if not path.is_file():
        return None
    content = read_json(path)
    try:
        return Latency(content["device"], dict(content["milliseconds"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} does not hold latencies ({error!r}); delete it.") from error


def write_latency(folder: Path, latency: Latency) -> Latency:
    """Add a measurement to the one in a folder, if that is of the same device; return both."""
    before = read_latency(folder)
    if before is not None and before.device == latency.device:
        latency = Latency(latency.device, before.milliseconds | latency.milliseconds)
    write_json(folder / LATENCY_FILE, latency._asdict())
    return latency


def _measure_one(name: str, repeats: int) -> float:
    model = counts.released_model(name)
    images = jnp.zeros((1, *model.image_hw, 3))
    # The time does not depend on the values.
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    variables = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), shapes)
    forward = jax.jit(model.apply)
    seconds = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        jax.block_until_ready(forward(variables, images))
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[2:])
