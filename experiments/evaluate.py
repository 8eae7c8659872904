r"""Evaluates a trained model on any COCO-format dataset.

    python -m experiments.evaluate --model=d0 --weights=runs/d0 --images=DIR --annotations=FILE \
        --output=runs/d0/evaluation

prints COCO's twelve numbers and the AP of every class, and writes metrics.json and detections.json
(COCO's results format). The categories of the annotations are matched with those of the model by
id and name. Without --images and --annotations it takes the evaluation data of the run's config.
"""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from bifpn_jax.data.records import BAD_IMAGES, Source
from bifpn_jax.data.sources import Relabelled
from bifpn_jax.errors import UserError
from bifpn_jax.evaluation.coco_eval import evaluate_detections
from bifpn_jax.evaluation.evaluator import detect_all, without_images
from bifpn_jax.evaluation.metrics import CocoMetrics
from bifpn_jax.evaluation.results import EVALUATION_FILE, write_detections, write_metrics
from bifpn_jax.evaluation.table import metrics_table
from bifpn_jax.postprocess import Detections
from bifpn_jax.train import parallel
from bifpn_jax.train.waiting import waits_on_terminal
from experiments import command, from_config, trained_model
from experiments.compile_keys import evaluation_key
from experiments.download import ask_before_download, define_download_flag
from experiments.trained_model import TrainedModel


class Evaluation(NamedTuple):
    """What an evaluation found, and how fast.

    Attributes:
        metrics: COCO's numbers.
        detections: in COCO's results format.
        images_per_second: of loading, network and postprocessing, without the first batch, which
            compiles; not a number where there is only one.
        skipped: ids of the bad images that were found while evaluating and are not in the metrics.
    """

    metrics: CocoMetrics
    detections: list[dict[str, Any]]
    images_per_second: float
    skipped: list[int]


def evaluate_trained(
    trained: TrainedModel, source: Source, *, batch_size: int = 0, progress: bool = False
) -> Evaluation:
    """Evaluates a trained model on a dataset.

    Args:
        trained: the model; its config has the settings of the postprocessing.
        source: the data; its categories must be among the model's, by id and name.
        batch_size: images at a time; 0 for that of the model's config.
        progress: whether to show a progress bar, where stderr is a terminal.

    Raises:
        UserError: the model does not have the categories of the dataset.
    """
    model, config = trained.model, trained.config
    source = Relabelled(source, trained.label_map)
    batches = from_config.evaluation_batches(config, model, source, batch_size)
    step = waits_on_terminal().first(
        "compiling the model", from_config.predict_fn(config, model), key=evaluation_key(config)
    )
    variables = parallel.replicate(trained.variables)
    start, warm_up = None, 0

    def predict(batch: Mapping[str, np.ndarray]) -> Detections:
        nonlocal start, warm_up
        detections = step(variables, batch)
        if start is None:
            jax.block_until_ready(detections)
            start, warm_up = time.monotonic(), int(batch["mask"].sum())
        return detections

    truth = source.ground_truth()
    detections, skipped = detect_all(
        predict, truth, batches, label_map=trained.label_map, progress=progress
    )
    timed = len(source) - warm_up
    speed = timed / (time.monotonic() - start) if timed else float("nan")
    metrics = evaluate_detections(without_images(truth, skipped), detections)
    return Evaluation(metrics, detections, speed, skipped)


def open_data(
    trained: TrainedModel,
    images: str = "",
    annotations: str = "",
    *,
    bad_boxes: str = "",
    agreed: bool = False,
) -> Source:
    """The dataset to evaluate on.

    Args:
        trained: where neither folder nor file is given, the evaluation data of its config.
        images: a folder of images.
        annotations: its COCO JSON.
        bad_boxes: as `CocoJson` takes it; "" for that of the config.
        agreed: whether COCO 2017 may be downloaded without asking.
    """
    data = trained.config.data
    if not images and not annotations:
        ask_before_download(data, agreed)
        return from_config.source(trained.config, "eval", len(trained.label_map))
    if not images or not annotations:
        missing = "annotations=FILE" if images else "images=DIR"
        raise UserError(f"--{missing} is missing; give --images and --annotations, or neither.")
    from bifpn_jax.data.coco_json import CocoJson

    try:
        return CocoJson(
            images,
            annotations,
            bad_boxes=bad_boxes or data.bad_boxes,
            bad_images=data.bad_images,
            split="eval",
        )
    except UserError as error:
        # The flags here have the names of the config's fields, without the prefix.
        message = str(error).replace("--config.data.eval_", "--").replace("--config.data.", "--")
        raise UserError(message) from None


def main(_: list[str]) -> None:
    """Runs the command."""
    given = flags.FLAGS
    output = command.make_folder(given.output)
    trained = trained_model.load_from_flags()
    if given.bad_images:
        trained.config.data.bad_images = given.bad_images
    source = open_data(
        trained,
        given.images,
        given.annotations,
        bad_boxes=given.bad_boxes or "",
        agreed=given.download,
    )
    print(source.summary(), flush=True)
    for image in source.left_out:
        print(f"left out image {image.image_id}: {image}", flush=True)
    result = evaluate_trained(trained, source, batch_size=given.batch_size, progress=True)
    facts = {"weights": given.weights, "checkpoint": given.step or "default", "ema": given.ema}
    write_metrics(output / EVALUATION_FILE, result.metrics, **facts)
    write_detections(output / "detections.json", result.detections)
    print(metrics_table(result.metrics))
    if result.skipped:
        ids = ", ".join(map(str, result.skipped))
        print(f"\nbad images that were not evaluated: {len(result.skipped)} (ids {ids})")
    speed = (
        "" if np.isnan(result.images_per_second) else f"{result.images_per_second:.1f} images/s; "
    )
    print(f"\n{speed}metrics.json and detections.json are in {output}")


if __name__ == "__main__":
    trained_model.define_flags()
    define_download_flag()
    flags.DEFINE_string("images", "", "Folder of images.")
    flags.DEFINE_string("annotations", "", "COCO JSON of the images.")
    flags.DEFINE_enum(
        "bad_boxes",
        None,
        ("error", "skip", "clip"),
        "What to do about impossible boxes; by default as in the run's config.",
    )
    flags.DEFINE_enum(
        "bad_images",
        None,
        BAD_IMAGES,
        "What to do about images that cannot be read; by default as in the run's config.",
    )
    flags.DEFINE_string("output", "runs/evaluate", "Folder for the results.")
    flags.DEFINE_integer("batch_size", 0, "Images at a time; 0: as in the config.", lower_bound=0)
    command.run(main)
