"""Checks that training works: trains on a few real images and evaluates on the same ones.

    python -m experiments.memorize --images=DIR --annotations=FILE --workdir=runs/memorize

A detector memorises a few images almost perfectly; nearly every silent bug in data, targets,
losses, training or evaluation prevents that. This uses D0 at 256 pixels, without augmentation, on
the first images of a COCO JSON that have at most ten objects and no crowds.
"""

import json
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from bifpn_jax.command_line import command
from bifpn_jax.data.sources.coco_folder import CocoJson
from bifpn_jax.errors import UserError
from bifpn_jax.evaluation.metrics import format_score
from bifpn_jax.models.scaling import MODELS
from bifpn_jax.recipe import base

FLAGS = flags.FLAGS

# Config fields that this command has flags for, and the flags.
FLAG_NAMES = {"data.train_images": "images", "data.train_annotations": "annotations"}


def choose_images(ground_truth: dict, count: int, max_objects: int) -> dict:
    """Return part of a COCO dict: the first `count` images of 1 .. `max_objects` objects."""
    of_image: dict[int, list[dict]] = {image["id"]: [] for image in ground_truth["images"]}
    for annotation in ground_truth["annotations"]:
        of_image[annotation["image_id"]].append(annotation)
    chosen = [
        image
        for image in ground_truth["images"]
        if 1 <= len(of_image[image["id"]]) <= max_objects
        and not any(annotation.get("iscrowd") for annotation in of_image[image["id"]])
    ][:count]
    if len(chosen) < count:
        raise UserError(
            f"only {len(chosen)} images have 1 to {max_objects} objects and no crowd: lower "
            "--num_images or raise --max_objects."
        )
    annotations = [a for image in chosen for a in of_image[image["id"]]]
    return ground_truth | {"images": chosen, "annotations": annotations}


def memorize_config(
    images: str, annotations: Path, *, model: str, size: int, count: int, steps: int
) -> ConfigDict:
    """Return the base config without anything that makes a model generalise."""
    config = base.get_config(model)
    config.name = f"memorize_{model}"
    config.model.update(
        {"image_hw": (size, size), "survival_prob": 1.0, "batch_norm_momentum": 0.9}
    )
    config.data.update(
        {
            "source": "coco_json",
            "train_images": images,
            "train_annotations": str(annotations),
            "eval_images": images,
            "eval_annotations": str(annotations),
        }
    )
    config.augment.update({"flip": False, "jitter": (1.0, 1.0)})
    config.train.update({"batch_size": count, "steps": steps})
    config.optimizer.update({"name": "adamw", "weight_decay": 0.0})
    config.schedule.update(
        {"base_rate": 0.008, "warmup_epochs": steps / 20, "warmup_init": 0.0, "offset_cosine": True}
    )
    config.ema_decay = 0.95
    config.eval.update({"every_epochs": steps / 4, "batch_size": count})
    config.checkpoint.every_epochs = steps / 4
    config.log.every_steps = 10
    return config


def main(_: list[str]) -> None:
    """Run the command."""
    from bifpn_jax.runs.loop import train_and_evaluate

    source = CocoJson(FLAGS.images, FLAGS.annotations, bad_boxes="clip", bad_images="skip")
    subset = choose_images(source.ground_truth(), FLAGS.num_images, FLAGS.max_objects)
    workdir = Path(FLAGS.workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    file = workdir / "memorize.json"
    file.write_text(json.dumps(subset), encoding="utf-8")
    config = memorize_config(
        FLAGS.images,
        file,
        model=FLAGS.model,
        size=FLAGS.size,
        count=FLAGS.num_images,
        steps=FLAGS.steps,
    )
    metrics = train_and_evaluate(config, workdir)
    ap, ap50 = (format_score(metrics[name]) for name in ("AP", "AP50"))
    print(f"AP {ap}  AP50 {ap50} on the {FLAGS.num_images} images")


if __name__ == "__main__":
    flags.DEFINE_string("images", None, "Folder of images.", required=True)
    flags.DEFINE_string("annotations", None, "COCO JSON of the images.", required=True)
    flags.DEFINE_string("workdir", "runs/memorize", "Folder of the run.")
    flags.DEFINE_enum("model", "d0", list(MODELS), "The model.")
    flags.DEFINE_integer("size", 256, "Side of the network's frame in pixels.", lower_bound=64)
    flags.DEFINE_integer("num_images", 8, "Images to memorise.", lower_bound=1)
    flags.DEFINE_integer("max_objects", 10, "Most objects in an image.", lower_bound=1)
    flags.DEFINE_integer("steps", 240, "Training steps.", lower_bound=20)
    command.run(main, flag_names=FLAG_NAMES)
