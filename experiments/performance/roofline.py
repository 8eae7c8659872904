"""The fastest possible training step on an accelerator, from operations and memory traffic.

    python -m experiments.performance.roofline
    python -m experiments.performance.roofline --models=d0,d7x --batch_size=4 --dtype=float32

Counted from the program of a step without running it; `bifpn_jax.models.traffic` says what counts.
A measured step is slower than the bound; the quotient of the two shows how much could be gained.
"""

from typing import NamedTuple

import jax
from absl import flags

from bifpn_jax.command_line import command
from bifpn_jax.errors import UserError
from bifpn_jax.models.scaling import MODELS
from bifpn_jax.models.traffic import Traffic, count_traffic
from experiments.paper import counts
from experiments.paper.table import Column, Table, to_markdown
from experiments.performance import programs

FLAGS = flags.FLAGS


class Accelerator(NamedTuple):
    """The vendor's peaks: dense operations per second, and bytes per second of memory."""

    bfloat16: float
    float32: float
    bandwidth: float


# float32 is what matrix units do with it: TF32 on H100, three bfloat16 passes on TPUs.
ACCELERATORS = {
    "H100": Accelerator(989e12, 495e12, 3.35e12),
    "TPU v5e": Accelerator(197e12, 197e12 / 3, 0.819e12),
    "TPU v5p": Accelerator(459e12, 459e12 / 3, 2.765e12),
}
DTYPES = ("bfloat16", "float32")


def main(_: list[str]) -> None:
    """Run the command."""
    for name in FLAGS.models:
        if name not in MODELS:
            raise UserError(f"--models: there is no {name}; there are {', '.join(MODELS)}.")
    if FLAGS.batch_size < 1:
        raise UserError(f"--batch_size={FLAGS.batch_size}: give 1 or more images per device.")
    found = {name: step_traffic(name, FLAGS.batch_size, FLAGS.dtype) for name in FLAGS.models}
    print(to_markdown(roofline_table(found, FLAGS.batch_size, FLAGS.dtype)))


def step_traffic(name: str, batch_size: int, dtype: str) -> Traffic:
    """Return the traffic of one training step of a released model on one device.

    Args:
        name: name of the model.
        batch_size: images on the device.
        dtype: type of the activations.
    """
    config = counts.released_config(name, dtype)
    model = counts.model_of(config, counts.COCO_OUTPUTS)
    step, state, batch = programs.step_to_trace(config, model, batch_size)
    return count_traffic(jax.make_jaxpr(step)(state, batch))


def roofline_table(found: dict[str, Traffic], batch_size: int, dtype: str) -> Table:
    """Return a table with a row per model and a column per accelerator."""
    rows = []
    for name, traffic in found.items():
        intensity = traffic.flops / traffic.bytes
        bounds = [_bound(traffic, chip, dtype) for chip in ACCELERATORS.values()]
        rows.append((name, traffic.flops / 1e12, traffic.bytes / 1e9, intensity, *bounds))
    return Table(
        "roofline",
        f"Bounds of a training step, {batch_size} images per device, {dtype}",
        [
            Column("model"),
            Column("T operations", 2),
            Column("GB", 1),
            Column("operations per byte", 0),
            *(Column(f"ms on {name}") for name in ACCELERATORS),
        ],
        rows,
        "The longer of two times, of the operations and of the memory traffic at the vendor's "
        "peaks, and which of them it is.",
    )


def _bound(traffic: Traffic, chip: Accelerator, dtype: str) -> str:
    peak = chip.bfloat16 if dtype == "bfloat16" else chip.float32
    arithmetic, memory = traffic.flops / peak, traffic.bytes / chip.bandwidth
    word = "memory" if memory > arithmetic else "arithmetic"
    return f"{1e3 * max(arithmetic, memory):.1f} ({word})"


if __name__ == "__main__":
    flags.DEFINE_list("models", list(MODELS), "Released models.")
    flags.DEFINE_integer("batch_size", 8, "Images per device.")
    flags.DEFINE_enum("dtype", "bfloat16", DTYPES, "Of the activations.")
    command.run(main)
