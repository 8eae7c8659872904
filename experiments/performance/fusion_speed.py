"""Times softmax against fast normalized fusion, side by side (paper Table 6).

    python -m experiments.performance.fusion_speed --config=configs/d0.py --output=docs/results

Both models are compiled in one process and take turns; each turn gives one ratio, the time with
softmax over the time with fast fusion. Writes fusion_speed.json, which experiments.tables reads.
"""

import statistics
import sys
from collections.abc import Callable
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from bifpn_jax.command_line import command
from bifpn_jax.json_files import write_json
from bifpn_jax.models.initial_values import init_variables
from bifpn_jax.recipe.checks import check_config
from bifpn_jax.train import devices
from experiments.paper import counts
from experiments.paper.fusion_table import SPEED_FILE
from experiments.performance import programs
from experiments.performance.contest import take_turns

FLAGS = flags.FLAGS


def fusion_speed(
    config: ConfigDict, *, batch_size: int, train_batch_size: int, rounds: int
) -> dict[str, Any]:
    """Return the ratios of the model's times with softmax and with fast fusion.

    Args:
        config: the config of the model; the fusion is replaced.
        batch_size: images per forward pass.
        train_batch_size: images per training step.
        rounds: how often each is timed, after one run that compiles and one that warms up.

    Returns:
        {"forward": {"ratios": […], "seconds": {fusion: median}}, "train_step": …, "device": …}.
    """
    runs: dict[str, dict[str, Callable[[], object]]] = {"forward": {}, "train_step": {}}
    for fusion in ("softmax", "fast"):
        config.model.fusion = fusion
        model = counts.model_of(config, counts.COCO_OUTPUTS)
        variables = init_variables(model, config.seed)
        runs["forward"][fusion] = programs.forward(model, variables, batch_size)
        runs["train_step"][fusion] = programs.training_step(config, model, train_batch_size)
    found: dict[str, Any] = {"device": devices.device_name(), "model": config.name}
    found |= {
        "rounds": rounds,
        "image_hw": list(config.model.image_hw),
        "dtype": config.model.dtype,
    }
    found |= {"batch_size": batch_size, "train_batch_size": train_batch_size}
    for what, pair in runs.items():
        print(f"{what}: compiles, then {rounds} rounds …", file=sys.stderr, flush=True)
        found[what] = _compare(pair, rounds)
    return found


def _compare(pair: dict[str, Callable[[], object]], rounds: int) -> dict[str, Any]:
    seconds = take_turns(pair, rounds)
    ratios = [a / b for a, b in zip(seconds["softmax"], seconds["fast"], strict=True)]
    return {
        "ratios": [round(ratio, 4) for ratio in ratios],
        "median": round(statistics.median(ratios), 4),
        "seconds": {name: round(statistics.median(times), 4) for name, times in seconds.items()},
    }


def main(_: list[str]) -> None:
    """Run the command."""
    check_config(FLAGS.config)
    output = command.make_folder(FLAGS.output)
    found = fusion_speed(
        FLAGS.config,
        batch_size=FLAGS.batch_size,
        train_batch_size=FLAGS.train_batch_size,
        rounds=FLAGS.rounds,
    )
    path = write_json(output / SPEED_FILE, found)
    for what in ("forward", "train_step"):
        times = found[what]["seconds"]
        print(
            f"{what}: softmax {times['softmax'] * 1e3:.1f} ms, fast {times['fast'] * 1e3:.1f} ms, "
            f"median ratio {found[what]['median']:.3f}"
        )
    print(f"ratios are in {path}")


if __name__ == "__main__":
    command.define_config_flag()
    flags.DEFINE_string("output", "runs/fusion_speed", "Folder for the numbers.")
    flags.DEFINE_integer("batch_size", 1, "Images of a forward pass.", lower_bound=1)
    flags.DEFINE_integer("train_batch_size", 2, "Images of a training step.", lower_bound=1)
    flags.DEFINE_integer("rounds", 20, "Timed rounds.", lower_bound=2)
    command.run(main)
