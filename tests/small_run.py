"""The command that trains a small D0 for ten steps, and what it leaves."""

from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

STEPS = 10


def words(workdir: Path, data_dir: Path, *more: str) -> list[str]:
    """A small D0, with dropped branches and with images that have more boxes than fit."""
    return [
        *("-m", "experiments.main", "--config=configs/d0.py", f"--workdir={workdir}"),
        "--config.model.backbone=nano",
        "--config.model.image_hw=(64, 64)",
        "--config.model.width=16",
        "--config.model.network_repeats=1",
        "--config.model.head_repeats=1",
        "--config.model.min_level=5",
        "--config.model.max_level=6",
        "--config.model.anchor_scale=1.0",
        "--config.model.survival_prob=0.8",
        "--config.data.source=shapes",
        f"--config.data.data_dir={data_dir}",
        "--config.data.shapes={'num_train': 20, 'num_eval': 11, 'seed': 0, 'sides': (48, 72)}",
        "--config.data.max_boxes=2",
        "--config.train.batch_size=4",
        f"--config.train.steps={STEPS}",
        "--config.schedule.warmup_epochs=0.4",
        "--config.eval.batch_size=4",
        "--config.log.every_steps=2",
        *more,
    ]


def checkpoint_steps(workdir: Path) -> list[int]:
    """Steps whose checkpoints are complete."""
    folder = workdir / "checkpoints" / "latest"
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def state_of(workdir: Path) -> dict[str, np.ndarray]:
    """All arrays of the last checkpoint by name."""
    path = workdir / "checkpoints" / "latest" / str(STEPS) / "state"
    with ocp.PyTreeCheckpointer() as reader:
        tree = reader.metadata(path).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        restored = reader.restore(path, restore_args=as_numpy)
    return {
        jax.tree_util.keystr(name, simple=True, separator="/"): array
        for name, array in jax.tree_util.tree_leaves_with_path(restored)
    }
