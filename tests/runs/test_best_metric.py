"""The best checkpoint by a number that a metric of one's own returns."""

import json
import shutil

import pytest

from bifpn_jax.data.sources.shapes import DrawnShapes
from bifpn_jax.errors import UserError
from bifpn_jax.recipe import base
from bifpn_jax.recipe.checks import check_config
from bifpn_jax.runs.evaluating import ask_for_best_metric

CODE = """
def counted(ground_truth, detections):
    return {"images": len(ground_truth["images"]), "minus": -len(detections)}


def ratio(ground_truth, detections):
    return {"ratio": sum(d["score"] for d in detections) / len(detections)}


def silent(ground_truth, detections):
    return ratio(ground_truth, detections) if detections else {}
"""


@pytest.fixture
def code(tmp_path):
    file = tmp_path / "my_metric.py"
    file.write_text(CODE)
    return file


def with_metric(config, best, *metrics, weights="ema"):
    config.checkpoint.best_metric = best
    config.eval.metrics, config.eval.weights = metrics, weights
    return config


@pytest.mark.parametrize(
    ("best", "weights", "said"),
    [
        ("minus", "ema", ""),
        ("AP50", "ema", ""),
        ("raw_minus", "both", ""),
        ("raw_AP", "both", ""),
        ("raw_minus", "ema", "best_metric='raw_minus' does not work: use AP or .* or minus"),
        (
            "mins",
            "ema",
            "best_metric='mins' does not work: use AP or .* or images or minus",
        ),
    ],
)
def test_what_is_not_returned_is_refused_before_a_step_is_made(best, weights, said, code):
    config = with_metric(base.get_config("d0"), best, f"{code}:counted", weights=weights)
    check_config(config)  # whose names these are, nobody knows yet
    source = DrawnShapes(3, split="validation", sides=(48, 72))
    if not said:
        ask_for_best_metric(config, source)
        return
    with pytest.raises(UserError, match=said) as refused:
        ask_for_best_metric(config, source)
    assert "\n" not in str(refused.value)


def test_one_that_needs_detections_is_asked_at_the_first_evaluation(code):
    source = DrawnShapes(3, split="validation", sides=(48, 72))
    for best in ("ratio", "rato"):
        for metric in ("ratio", "silent"):
            config = with_metric(base.get_config("d0"), best, f"{code}:{metric}")
            check_config(config)
            ask_for_best_metric(config, source)


def test_without_metrics_of_ones_own_it_is_one_of_cocos():
    with pytest.raises(UserError, match="best_metric='minus' does not work: use AP or AP50"):
        check_config(with_metric(base.get_config("d0"), "minus"))


def test_a_run_has_it_or_writes_nothing(trained, tiny_config, run_training, code, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(trained, workdir)
    before = json.loads((workdir / "metrics.json").read_text())
    detections = (workdir / "detections.json").read_bytes()

    with pytest.raises(UserError, match=r"best_metric='rato' does not work: .* or ratio\.$"):
        run_training(with_metric(tiny_config(), "rato", f"{code}:ratio"), workdir)
    assert json.loads((workdir / "metrics.json").read_text()) == before
    assert (workdir / "detections.json").read_bytes() == detections

    metrics = run_training(with_metric(tiny_config(), "minus", f"{code}:counted"), workdir)
    assert metrics["minus"] == -metrics["num_detections"]
    (best,) = (workdir / "checkpoints" / "best").glob("[0-9]*")
    score = json.loads((best / "metrics" / "metrics").read_text())
    assert score["minus"] <= 0
