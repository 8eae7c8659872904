r"""Evaluates a trained model on any COCO-format dataset.

    bifpn eval --model=d0 --weights=runs/d0 --images=DIR --annotations=FILE \
        --output=runs/d0/evaluation

prints the twelve COCO metrics and the AP of every class, and writes metrics.json and
detections.json (COCO's results format). The categories of the annotations are matched with those of
the model by name; results use the ids of the annotations. Without --images and --annotations it
uses the evaluation data of the run's config. --metrics=my_metric.py:counted adds your own metrics.
"""

import dataclasses
import math

from absl import flags
from ml_collections import ConfigDict

from bifpn_jax.command_line import command, trained_model
from bifpn_jax.command_line.download_consent import define_download_flag
from bifpn_jax.command_line.own_data import own_eval_source
from bifpn_jax.data.coco.coco_objects import BAD_BOXES
from bifpn_jax.data.records import BAD_IMAGES, Source
from bifpn_jax.data.sources.relabelling import Relabelled
from bifpn_jax.errors import UserError
from bifpn_jax.evaluation.detection_limit import limit_warning
from bifpn_jax.evaluation.own_metrics import find_metric
from bifpn_jax.evaluation.results import EVALUATION_FILE, write_detections, write_metrics
from bifpn_jax.evaluation.table import metrics_table
from bifpn_jax.named_parts import is_trusted, trust_code
from bifpn_jax.runs.compile_keys import evaluation_key
from bifpn_jax.runs.waiting import waits_on_terminal
from bifpn_jax.trained import evaluate_detector

# Library arguments and config fields for which this command has flags.
FLAG_NAMES = {
    **trained_model.FLAG_NAMES,
    "data.eval_images": "images",
    "data.eval_annotations": "annotations",
    "data.bad_boxes": "bad_boxes",
    "data.bad_images": "bad_images",
    "eval.metrics": "metrics",
    "batch_size": "batch_size",
    "max_detections": "max_detections",
}


def open_data(
    config: ConfigDict,
    num_classes: int,
    images: str = "",
    annotations: str = "",
    *,
    bad_boxes: str = "",
    agreed: bool = False,
) -> Source:
    """Open the dataset to evaluate on.

    Args:
        config: config of the run; its evaluation data is used if neither folder nor file is given.
        num_classes: number of classes of the detector.
        images: a folder of images.
        annotations: its COCO JSON.
        bad_boxes: as in `CocoJson`; "" for that of the config.
        agreed: whether COCO 2017 may be downloaded without asking.
    """
    data = config.data
    if not images and not annotations:
        return own_eval_source(
            config,
            num_classes,
            agreed=agreed,
            instead="name images with --images=DIR --annotations=FILE",
        )
    if not images or not annotations:
        missing = "annotations=FILE" if images else "images=DIR"
        raise UserError(f"--{missing} is missing; give --images and --annotations, or neither.")
    from bifpn_jax.data.sources.coco_folder import CocoJson

    return CocoJson(
        images,
        annotations,
        bad_boxes=bad_boxes or data.bad_boxes,
        bad_images=data.bad_images,
        split="eval",
    )


def trusted_metrics(config: ConfigDict) -> list[str]:
    """The metrics of one's own in the config of a run, which somebody else may have written.

    Code that is not trusted is left out, and said: COCO's numbers do not depend on it.
    """
    names = list(config.eval.metrics)
    for name in names:
        if not is_trusted(name):
            print(
                f"not measured: metric {name}, code in a file that is not run without consent; "
                "read it, and if you trust it, set --trust_code",
                flush=True,
            )
    return [name for name in names if is_trusted(name)]


def define_flags() -> None:
    """Define the flags of this command."""
    trained_model.define_flags()
    define_download_flag()
    flags.DEFINE_string("images", "", "Folder of images.")
    flags.DEFINE_string("annotations", "", "COCO JSON of the images.")
    flags.DEFINE_enum(
        "bad_boxes",
        None,
        BAD_BOXES,
        "What to do about invalid boxes; by default as in the run's config.",
    )
    flags.DEFINE_enum(
        "bad_images",
        None,
        BAD_IMAGES,
        "What to do about images that cannot be read; by default as in the run's config.",
    )
    flags.DEFINE_integer(
        "max_detections",
        None,
        "How many detections per image are kept and scored; by default as in the run's config.",
        lower_bound=1,
        upper_bound=10_000,
    )
    flags.DEFINE_list(
        "metrics",
        None,
        "Metrics in addition to COCO's, FILE.py:NAME,…; by default as in the run's config.",
    )
    flags.DEFINE_string("output", "runs/evaluate", "Folder for the results.")
    flags.DEFINE_integer("batch_size", 0, "Images per batch; 0: as in the config.", lower_bound=0)


def main(_: list[str]) -> None:
    """Run the command."""
    given = flags.FLAGS
    command.check_devices()
    for name in given.metrics or ():
        trust_code(name)  # who names code on the command line means it
        find_metric(name)  # for what it refuses
    output = command.make_folder(given.output)
    detector = trained_model.load_from_flags()
    config = trained_model.run_config(detector)
    if given.bad_images:
        config.data.bad_images = given.bad_images
    if given.max_detections:
        changed = {**detector.postprocessing, "max_detections": given.max_detections}
        detector = dataclasses.replace(detector, postprocessing=changed)
    source = open_data(
        config,
        len(detector.label_map),
        given.images,
        given.annotations,
        bad_boxes=given.bad_boxes or "",
        agreed=given.download,
    )
    source = Relabelled(source, detector.label_map)
    print(f"weights: {detector.source}\ndata: {source.summary()}", flush=True)
    limit = detector.postprocessing["max_detections"]
    if too_few := limit_warning(source, limit, "--max_detections"):
        print(too_few, flush=True)
    metrics = given.metrics or trusted_metrics(config)
    for image in source.left_out:
        print(f"skipped image {image.image_id}: {image}", flush=True)
    result = evaluate_detector(
        detector,
        source,
        metrics=metrics,
        batch_size=given.batch_size,
        bad_images=config.data.bad_images,
        num_threads=config.data.num_threads or None,
        progress=True,
        around_step=lambda step: waits_on_terminal().first(
            "compiling the model", step, key=evaluation_key(config)
        ),
    )
    facts = {
        "weights": given.weights,
        "checkpoint": given.step or "default",
        "step": detector.step,
        "ema": given.ema,
        "data": source.name,
    }
    write_metrics(output / EVALUATION_FILE, result.metrics, **facts, **result.own)
    write_detections(output / "detections.json", result.detections)
    print(metrics_table(result.metrics, result.own))
    if result.skipped:
        ids = ", ".join(map(str, result.skipped))
        print(f"\nbad images that were not evaluated: {len(result.skipped)} (ids {ids})")
    speed = (
        "" if math.isnan(result.images_per_second) else f"{result.images_per_second:.1f} images/s; "
    )
    print(f"\n{speed}metrics.json and detections.json are in {output}")
