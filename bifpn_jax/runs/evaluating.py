"""Evaluates the state of a run according to its config, and writes the results to its workdir.

``metrics.json`` also records the step and, under ``evaluated_with``, the kind of weights, the
settings and the data.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from bifpn_jax.data.records import Source
from bifpn_jax.data.sources.relabelling import result_ids
from bifpn_jax.errors import UserError
from bifpn_jax.evaluation.coco_eval import evaluate_detections
from bifpn_jax.evaluation.evaluator import detect_all, without_images
from bifpn_jax.evaluation.fingerprint import fingerprint, ground_truth_fingerprint
from bifpn_jax.evaluation.metrics import CocoMetrics, format_score
from bifpn_jax.evaluation.own_metrics import metric_names, own_metrics
from bifpn_jax.evaluation.results import (
    EVALUATION_FILE,
    read_metrics,
    write_detections,
    write_metrics,
)
from bifpn_jax.json_files import read_json
from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.recipe import building
from bifpn_jax.recipe.best_metric import check_best_metric, measured_names
from bifpn_jax.runs.compile_keys import evaluation_key
from bifpn_jax.runs.waiting import Waits
from bifpn_jax.train import devices, exchange
from bifpn_jax.train.checkpoints import Checkpoints
from bifpn_jax.train.state import EVALUATED, TrainState


class _Scored(NamedTuple):
    metrics: CocoMetrics
    own: dict[str, float | None]
    detections: list[dict[str, Any]]
    skipped: list[int]


def make_evaluation(
    config: ConfigDict,
    model: EfficientDet,
    source: Source,
    on_skipped: Callable[[Sequence[int]], object] = lambda _: None,
    waits: Waits | None = None,
) -> Callable[[TrainState, Path], dict[str, Any]]:
    """Return a function that evaluates a state, writes the files and returns the metrics.

    Each process runs the detector on its share of the images. The first scores all detections and
    writes the files, and all return its metrics, with the conditions under "evaluated_with". With
    both kinds of weights, metrics of the raw ones have the prefix "raw_", and the detections are
    those of the averaged ones. The files use the category ids of the source's own annotations,
    whatever the labels of the model. `on_skipped` gets the ids of bad images, which are not scored;
    `waits` reports compilation.

    Raises:
        UserError: a custom metric does not work, or no metric is `checkpoint.best_metric`; nothing
            is written.
        Interrupted: by `waits`, during compilation; nothing is written.
    """
    predict = building.predict_fn(config, model)
    if waits is not None:
        predict = waits.first("compiling the evaluation", predict, key=evaluation_key(config))
    batches = building.evaluation_batches(
        config,
        model,
        source,
        shard_index=devices.process_index(),
        shard_count=devices.process_count(),
    )
    is_primary = devices.process_index() == 0
    # Once, because it reads all annotations.
    measured_with = cache(lambda: conditions(config, source))

    def run(state: TrainState, ema: bool) -> _Scored:
        truth = source.ground_truth()
        detections, skipped = detect_all(
            partial(predict, state.variables(ema=ema)),
            truth,
            batches,
            label_map=result_ids(source),
            progress=is_primary and config.log.progress,
            gather_rows=exchange.gather_rows if devices.process_count() > 1 else None,
        )
        on_skipped(skipped)
        truth = without_images(truth, skipped)
        limit = config.eval.max_detections
        metrics, own = exchange.from_primary(
            lambda: (
                evaluate_detections(truth, detections, max_detections=limit).to_json(),
                own_metrics(config.eval.metrics, truth, detections),
            )
        )
        return _Scored(CocoMetrics.from_json(metrics), own, detections, skipped)

    def evaluate_state(state: TrainState, workdir: Path) -> dict[str, Any]:
        ema, *others = EVALUATED[config.eval.weights]
        result, own, detections, skipped = run(state, ema)
        check_best_metric(config, own)
        facts: dict[str, Any] = {**own, "evaluated_with": measured_with()}
        if model.num_classes != len(result.per_class):
            facts["num_classes"] = model.num_classes
        if skipped:
            facts["not_evaluated"] = sorted(skipped)
        for ema in others:
            raw = run(state, ema)
            numbers = raw.metrics.to_json()
            facts |= {f"raw_{name}": numbers[name] for name in raw.metrics.summary}
            facts |= {f"raw_{name}": value for name, value in raw.own.items()}
        if is_primary:
            # Removed while the two files may not belong together.
            (workdir / EVALUATION_FILE).unlink(missing_ok=True)
            write_detections(workdir / "detections.json", detections)
            write_metrics(workdir / EVALUATION_FILE, result, step=int(state.step), **facts)
        return {**result.to_json(), **facts}

    return evaluate_state


def ask_for_best_metric(config: ConfigDict, source: Source) -> None:
    """Refuse a `checkpoint.best_metric` that evaluations will not have, as far as is known.

    Custom metrics are called with no detections to learn their names. If one fails then, the first
    evaluation checks instead.

    Raises:
        UserError: there is no such number.
    """
    if config.checkpoint.best_metric not in measured_names(config):
        check_best_metric(config, metric_names(config.eval.metrics, source.ground_truth()))


def conditions(config: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """Return what metrics depend on besides the model: kind of weights, settings and data."""
    truth = source.ground_truth()
    return {
        **settings(config),
        "images": len(truth["images"]),
        "boxes": len(truth["annotations"]),
        "data": ground_truth_fingerprint(truth),
    }


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of `conditions` that the config determines."""
    evaluation, data = config["eval"], config["data"]
    found = {name: evaluation[name] for name in ("weights", "pre_nms_top_k", "max_detections")}
    used = "sigma" if evaluation["nms_method"] == "gaussian" else "iou_threshold"
    found |= {name: evaluation[name] for name in ("nms_method", used)}
    if evaluation.get("metrics"):
        found["metrics"] = list(evaluation["metrics"])
    return found | {"antialias": data["antialias"]}


def comparable(metrics: Mapping[str, Any], best_metric: str) -> str:
    """Return a fingerprint that is equal if the `best_metric` of two evaluations is comparable."""
    measured = dict(metrics["evaluated_with"])
    if measured["weights"] == "both":  # Each number is of one kind of weights.
        measured["weights"] = "raw" if best_metric.startswith("raw_") else "ema"
    return fingerprint([measured, metrics.get("not_evaluated", [])])


def measure_best_again(
    config: ConfigDict,
    checkpoints: Checkpoints,
    target: Any,
    evaluate_state: Callable[[TrainState, Path], dict[str, Any]],
    workdir: Path,
    say: Callable[[str], object],
) -> None:
    """Evaluate the best checkpoint under the current conditions, so that it can stay the best.

    Args:
        config: config of the run.
        checkpoints: checkpoints of the run, with a best one.
        target: as in `Checkpoints.restore`.
        evaluate_state: from `make_evaluation`.
        workdir: workdir of the run.
        say: called with a line about its score.
    """
    state, position, meta = checkpoints.restore(target, "best")
    metrics, step = evaluate_state(state, workdir), int(state.step)
    say(f"{score_line(config, step, metrics)}, the best checkpoint until now")
    measured = comparable(metrics, config.checkpoint.best_metric)
    checkpoints.save(step, state, position, meta, metrics, measured=measured, latest=False)


def score_line(config: ConfigDict, step: int, metrics: Mapping[str, Any]) -> str:
    """Return the line about an evaluation for the log."""
    ap, ap50 = (format_score(metrics[name]) for name in ("AP", "AP50"))
    return f"step {step}: AP {ap}  AP50 {ap50}  ({config.eval.weights} weights)"


def earlier_evaluation(
    workdir: Path, step: int, config: Mapping[str, Any], source: Source
) -> tuple[dict[str, Any] | None, str]:
    """Return the metrics already in a workdir, or None and the reason why they do not apply.

    If there are several processes, all get the result of the first.

    Args:
        workdir: workdir of the run.
        step: step of the current state.
        config: current config of the run.
        source: current evaluation data.
    """
    wanted = conditions(config, source)
    return exchange.from_primary(lambda: _read_earlier(workdir / EVALUATION_FILE, step, wanted))


def _read_earlier(
    path: Path, step: int, wanted: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, str]:
    if not path.exists():
        return None, f"there is no {EVALUATION_FILE}"
    try:
        read_metrics(path)
        found = read_json(path)
    except UserError as error:
        return None, str(error)
    if found.pop("step", None) != step:
        return None, f"{EVALUATION_FILE} is of another step"
    measured = found.get("evaluated_with")
    if not isinstance(measured, dict):
        return None, f"{EVALUATION_FILE} does not say what it was measured with"
    if measured != wanted:
        return None, f"{EVALUATION_FILE} was measured with {differences(measured, wanted)}"
    return found, ""


def differences(measured: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return the differences between the conditions of two evaluations, in words."""
    # If only one depends on a setting, such as sigma, the method says enough.
    names = [name for name in wanted if measured.get(name, wanted[name]) != wanted[name]]
    told = [
        f"{name}={measured.get(name)!r} (now {wanted.get(name)!r})"
        for name in names
        if name not in ("images", "boxes", "data")
    ]
    if "data" in names:
        told.append(
            f"other evaluation data, {measured.get('images')} images with "
            f"{measured.get('boxes')} boxes (now {wanted.get('images')} with {wanted.get('boxes')})"
        )
    return ", ".join(told)
