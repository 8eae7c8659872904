"""One tiny run that is really trained, shared by the tests of all commands."""

import fcntl
import json
import os

import jax
import pytest

from bifpn_jax.data.sources.shapes import DrawnShapes
from bifpn_jax.models.initial_values import init_variables
from bifpn_jax.recipe import base
from bifpn_jax.runs import loop, starting_weights
from bifpn_jax.train import devices
from bifpn_jax.train.step import TrainStep

STEPS = 24


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """One folder for all workers that test at the same time."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def data_dir(shared_folder):
    # The same for all workers: it is in the config of the run that they share.
    folder = shared_folder / "tfds"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def tiny_config(data_dir):
    """Makes a config of the smallest run that learns: seconds for 24 steps of 8 images."""

    def make():
        config = base.get_config("d0")
        config.name = "tiny"
        config.model.update(
            {
                "backbone": "nano",
                "image_hw": (64, 64),
                "width": 16,
                "network_repeats": 1,
                "head_repeats": 1,
                "max_level": 5,
            }
        )
        config.data.update({"source": "shapes", "data_dir": str(data_dir), "max_boxes": 4})
        config.data.shapes = {"num_train": 20, "num_eval": 11, "seed": 0, "sides": (48, 72)}
        config.augment.jitter = (0.8, 1.25)
        config.train.update({"batch_size": 8, "steps": STEPS})
        config.optimizer.name = "adamw"
        config.schedule.update({"base_rate": 0.04, "warmup_epochs": 1.0, "warmup_init": 0.0})
        config.eval.update({"every_epochs": 4.8, "batch_size": 8})  # every 12 steps
        config.checkpoint.every_epochs = 2.0  # every 5 steps
        config.log.update({"every_steps": 2, "progress": False})
        return config

    return make


@pytest.fixture(scope="session")
def run_training():
    """`train_and_evaluate`; runs of the same settings share compiled programs and first weights.

    A third argument is put around the compiled training step.
    """
    shared = {}

    def run(config, workdir, around_step=lambda step: step):
        settings = json.loads(config.to_json())
        for free in ("name", "log", "checkpoint", "data"):
            settings.pop(free)
        settings["eval"].pop("weights")

        def once(make):
            def make_once(step):
                parts = (step.gradients, step.update) if isinstance(step, TrainStep) else (step,)
                keywords = {name: value for part in parts for name, value in part.keywords.items()}
                rate = keywords.get("schedule", float)  # depends on the size of the data
                rates = tuple(float(rate(i)) for i in range(STEPS))
                key = make, json.dumps(settings), keywords["model"], rates
                if key not in shared:
                    shared[key] = make(step)
                return shared[key]

            return make_once

        def init_once(model, seed):
            if (model, seed) not in shared:
                # Kept on the host: a training step gives away the buffers of its input.
                shared[model, seed] = jax.device_get(init_variables(model, seed))
            return shared[model, seed]

        with pytest.MonkeyPatch.context() as patch:
            make_train_step = once(devices.map_train_step)
            patch.setattr(
                devices, "map_train_step", lambda step: around_step(make_train_step(step))
            )
            patch.setattr(devices, "map_predict_step", once(devices.map_predict_step))
            patch.setattr(starting_weights, "init_variables", init_once)
            return loop.train_and_evaluate(config, workdir)

    return run


def checkpoint_steps(workdir, name):
    """Steps of the checkpoints of a kind: latest, best or earlier_best."""
    return sorted(int(path.name) for path in (workdir / "checkpoints" / name).iterdir())


class CocoShapes:
    """The images of the tiny run's data as files with a COCO JSON."""

    def __init__(self, root, split, count, category_ids):
        self.images, self.annotations = root / split, root / f"{split}.json"
        self.images.mkdir(parents=True)
        source = DrawnShapes(count, split=split, sides=(48, 72))
        content = source.ground_truth()
        for record in (source[i] for i in range(count)):
            (self.images / record.where).write_bytes(record.encoded)
        ids = dict(zip(source.label_map.category_ids, category_ids, strict=False))
        content["categories"] = [
            {"id": ids[c["id"]], "name": c["name"]} for c in content["categories"] if c["id"] in ids
        ]
        content["annotations"] = [
            {**a, "category_id": ids[a["category_id"]]}
            for a in content["annotations"]
            if a["category_id"] in ids
        ]
        self.annotations.write_text(json.dumps(content))


@pytest.fixture(scope="session")
def coco_shapes(tmp_path_factory):
    """Writes 20 images to train on and 11 to evaluate on, with the given category ids."""

    def write(category_ids=(1, 2, 3, 4)):
        root = tmp_path_factory.mktemp("coco")
        return [
            CocoShapes(root, split, count, category_ids)
            for split, count in (("train", 20), ("validation", 11))
        ]

    return write


@pytest.fixture(scope="session")
def trained(tiny_config, run_training, shared_folder):
    """Workdir of a complete run that nothing has disturbed; not to be written to.

    Of several workers that test at the same time one trains, and the others wait for it.
    """
    workdir = shared_folder / "trained"
    with (shared_folder / "trained.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (workdir / "finished.json").exists():
            run_training(tiny_config(), workdir)
    return workdir
