"""A COCO folder that a case damages, and a run that is to train on it."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from in_process import Ended, run_command

from bifpn_jax.recipe import building


class CocoFiles:
    """Four images with the ids 1 to 4, of which the first is to be damaged, and their JSON."""

    def __init__(self, root: Path) -> None:
        self.root, self.images, self.annotations = root, root / "images", root / "coco.json"
        self.first = self.images / "first.jpg"
        self.images.mkdir()
        names = ["first.jpg", "second.png", "third.jpg", "fourth.png"]
        for seed, name in enumerate(names):
            pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)
            cv2.imwrite(str(self.images / name), pixels)
        self.content = {
            "images": [
                {"id": i, "file_name": name, "height": 40, "width": 60}
                for i, name in enumerate(names, start=1)
            ],
            "annotations": [
                {"id": 10 + i, "image_id": i, "category_id": 1, "bbox": [5, 6, 20, 30]}
                for i in range(1, 5)
            ],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }
        self.write()

    def write(self) -> None:
        self.annotations.write_text(json.dumps(self.content))

    def rename_first(self, name: str) -> None:
        """Writes the first image under another name into the JSON."""
        self.content["images"][0]["file_name"] = name
        self.write()


@pytest.fixture
def coco(tmp_path):
    return CocoFiles(tmp_path)


@pytest.fixture
def train_on(coco, tmp_path, monkeypatch):
    """Runs experiments.main on the COCO folder, with more words; it must not come to training."""
    monkeypatch.setattr(building, "run_length", lambda *_: pytest.fail("it would train"))

    def run(*words: str) -> Ended:
        return run_command(
            "train",
            "--config=configs/d0.py",
            "--process_count=1",
            f"--workdir={tmp_path / 'run'}",
            "--config.data.source=coco_json",
            *(f"--config.data.{split}_images={coco.images}" for split in ("train", "eval")),
            *(
                f"--config.data.{split}_annotations={coco.annotations}"
                for split in ("train", "eval")
            ),
            *words,
        )

    return run


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """Words for a small model on drawn images."""
    return [
        "--config.data.source=shapes",
        f"--config.data.data_dir={tmp_path_factory.mktemp('tfds')}",
        "--config.data.shapes={'num_train': 20, 'num_eval': 11, 'seed': 0, 'sides': (48, 72)}",
        "--config.model.backbone=nano",
        "--config.model.image_hw=(64, 64)",
        "--config.model.network_repeats=1",
        "--config.model.head_repeats=1",
        "--config.train.batch_size=8",
    ]
