"""Times softmax against fast normalised fusion, side by side (paper Table 6).

    python -m experiments.fusion_speed --config=configs/d0.py --output=docs/results

Both models are compiled in one process and take turns; each turn gives one ratio, the time with
softmax over the time with fast fusion. Writes fusion_speed.json, which experiments.tables reads.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from absl import flags
from ml_collections import ConfigDict

from bifpn_jax.json_files import write_json
from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.train import parallel
from bifpn_jax.train.state import create_state, init_variables
from experiments import command, from_config
from experiments.config_checks import check_config
from experiments.results import counts
from experiments.results.fusion_table import SPEED_FILE

FLAGS = flags.FLAGS


def fusion_speed(
    config: ConfigDict, *, batch_size: int, train_batch_size: int, rounds: int
) -> dict[str, Any]:
    """Ratios of times of the config's model with softmax and with fast fusion.

    Args:
        config: its model; the fusion is replaced.
        batch_size: images of a forward pass.
        train_batch_size: images of a training step.
        rounds: how often each is timed, after one run that compiles and one that warms up.

    Returns:
        {"forward": {"ratios": […], "seconds": {fusion: median}}, "train_step": …, "device": …}.
    """
    runs: dict[str, dict[str, Callable[[], Any]]] = {"forward": {}, "train_step": {}}
    for fusion in ("softmax", "fast"):
        config.model.fusion = fusion
        model = counts.model_of(config, counts.COCO_OUTPUTS)
        variables = init_variables(model, config.seed)
        runs["forward"][fusion] = _forward(model, variables, batch_size)
        runs["train_step"][fusion] = _train(config, model, variables, train_batch_size)
    found: dict[str, Any] = {"device": parallel.device_name(), "model": config.name}
    found |= {
        "rounds": rounds,
        "image_hw": list(config.model.image_hw),
        "dtype": config.model.dtype,
    }
    found |= {"batch_size": batch_size, "train_batch_size": train_batch_size}
    for what, pair in runs.items():
        print(f"{what}: compiles, then {rounds} rounds …", file=sys.stderr, flush=True)
        found[what] = _alternate(pair, rounds)
    return found


def _forward(model: EfficientDet, variables: Any, batch_size: int) -> Callable[[], Any]:
    images = np.zeros((batch_size, *model.image_hw, 3), np.float32)
    run = jax.jit(partial(model.apply, train=False))
    return lambda: run(variables, images)


def _train(
    config: ConfigDict, model: EfficientDet, variables: Any, batch_size: int
) -> Callable[[], Any]:
    schedule = optax.constant_schedule(1e-3)  # the rate does not change the time
    optimizer = from_config.optimizer(config, schedule, variables["params"])
    step = jax.jit(from_config.training_step(config, model, optimizer, schedule))
    state = create_state(variables, optimizer)
    height, width = model.image_hw
    boxes = np.zeros((batch_size, config.data.max_boxes, 4), np.float32)
    boxes[:, 0] = (height / 8, width / 8, height / 2, width / 2)
    labels = np.full(boxes.shape[:2], -1, np.int32)
    labels[:, 0] = 0
    batch = {
        "image": np.zeros((batch_size, height, width, 3), np.uint8),
        "content_hw": np.full((batch_size, 2), (height, width), np.int32),
        "boxes": boxes,
        "labels": labels,
    }
    return lambda: step(state, batch)


def _alternate(pair: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {fusion: [] for fusion in pair}
    for turn in range(rounds + 2):
        # Every other round begins with the other one.
        for fusion in sorted(pair, reverse=turn % 2 == 1):
            start = time.perf_counter()
            jax.block_until_ready(pair[fusion]())
            if turn >= 2:
                seconds[fusion].append(time.perf_counter() - start)
    ratios = [a / b for a, b in zip(seconds["softmax"], seconds["fast"], strict=True)]
    return {
        "ratios": [round(ratio, 4) for ratio in ratios],
        "median": round(statistics.median(ratios), 4),
        "seconds": {name: round(statistics.median(times), 4) for name, times in seconds.items()},
    }


def main(_: list[str]) -> None:
    """Runs the command."""
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
