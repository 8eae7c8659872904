"""Evaluates the state of a run, as its config says, and leaves the results in its workdir."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from bifpn_jax.data.records import Source
from bifpn_jax.data.sources import result_ids
from bifpn_jax.evaluation.coco_eval import evaluate_detections
from bifpn_jax.evaluation.evaluator import detect_all, without_images
from bifpn_jax.evaluation.metrics import CocoMetrics
from bifpn_jax.evaluation.results import EVALUATION_FILE, write_detections, write_metrics
from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.train import exchange, parallel
from bifpn_jax.train.state import TrainState
from experiments import from_config


def make_evaluation(
    config: ConfigDict,
    model: EfficientDet,
    source: Source,
    on_skipped: Callable[[Sequence[int]], object] = lambda _: None,
) -> Callable[[TrainState, Path], dict[str, Any]]:
    """A function that evaluates a state, writes the files and returns the metrics.

    Each process detects in its share of the images; the first scores all of them and writes, and
    all get its numbers. With both kinds of weights the raw ones' numbers are prefixed "raw_" and
    get no files. The files are in the category ids of the source's own annotations, whatever the
    labels of the model. `on_skipped` gets the ids of bad images, which are not scored.
    """
    predict = from_config.predict_fn(config, model)
    batches = from_config.evaluation_batches(
        config,
        model,
        source,
        shard_index=parallel.process_index(),
        shard_count=parallel.process_count(),
    )
    is_primary = parallel.process_index() == 0

    def run(state: TrainState, ema: bool) -> tuple[CocoMetrics, list[dict[str, Any]]]:
        truth = source.ground_truth()
        detections, skipped = detect_all(
            partial(predict, state.variables(ema=ema)),
            truth,
            batches,
            label_map=result_ids(source),
            progress=is_primary and config.log.progress,
            gather_rows=exchange.gather_rows if parallel.process_count() > 1 else None,
        )
        on_skipped(skipped)
        truth = without_images(truth, skipped)
        limit = config.eval.max_detections
        metrics = exchange.from_primary(
            lambda: evaluate_detections(truth, detections, max_detections=limit).to_json()
        )
        return CocoMetrics.from_json(metrics), detections

    def evaluate_state(state: TrainState, workdir: Path) -> dict[str, Any]:
        result, detections = run(state, config.eval.weights != "raw")
        if is_primary:
            facts = {"step": int(state.step)}
            if model.num_classes != len(result.per_class):
                facts["num_classes"] = model.num_classes
            write_metrics(workdir / EVALUATION_FILE, result, **facts)
            write_detections(workdir / "detections.json", detections)
        metrics = result.to_json()
        if config.eval.weights == "both":
            raw, _ = run(state, False)
            metrics |= {f"raw_{name}": value for name, value in raw.summary.items()}
        return metrics

    return evaluate_state
