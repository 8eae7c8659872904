"""Finished runs that are started again: nothing is left to do, or they are evaluated once more."""

import json
import shutil

import pytest
from tiny_run import checkpoint_steps

from bifpn_jax.errors import UserError
from bifpn_jax.recipe import building
from bifpn_jax.runs import evaluating
from bifpn_jax.train import devices
from bifpn_jax.trained import evaluate_detector, load_detector


def read_metrics(workdir):
    return json.loads((workdir / "metrics.json").read_text())


@pytest.fixture
def finished(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def test_a_complete_run_returns_at_once(trained, tiny_config, run_training, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("checkpoints/**/*")}

    def fail(*_):
        raise AssertionError("it trains")

    monkeypatch.setattr(devices, "prefetch", fail)
    metrics = run_training(tiny_config(), trained)
    assert metrics["AP"] == json.loads((trained / "metrics.json").read_text())["AP"]
    assert before == {path: path.stat().st_mtime_ns for path in trained.rglob("checkpoints/**/*")}


def test_a_run_that_was_stopped_before_its_last_evaluation_is_evaluated(
    trained, tiny_config, run_training, tmp_path
):
    workdir = tmp_path / "run"
    shutil.copytree(trained, workdir)
    expected = json.loads((workdir / "metrics.json").read_text())
    (workdir / "metrics.json").write_text(json.dumps(expected | {"step": 12, "AP": 0.0}))
    metrics = run_training(tiny_config(), workdir)
    assert metrics["AP"] == expected["AP"]
    assert json.loads((workdir / "metrics.json").read_text()) == expected


def test_a_finished_run_is_evaluated_again_with_other_settings(
    finished, tiny_config, run_training, caplog
):
    before = read_metrics(finished)
    assert before["evaluated_with"]["max_detections"] == 100
    config = tiny_config()
    config.eval.max_detections = 1
    metrics = run_training(config, finished)
    after = read_metrics(finished)
    assert after == {"step": 24, **metrics}
    assert after["evaluated_with"] == before["evaluated_with"] | {"max_detections": 1}
    assert after["num_detections"] == 11 < before["num_detections"]
    detections = json.loads((finished / "detections.json").read_text())
    assert len(detections) == 11
    assert json.loads((finished / "config.json").read_text())["eval"]["max_detections"] == 1
    assert (finished / "finished.json").exists()
    # The best one until now was measured otherwise; it is measured again, and then compared.
    (earlier,) = checkpoint_steps(finished, "earlier_best")
    assert "is not compared any more" in caplog.text
    (best,) = checkpoint_steps(finished, "best")
    source = building.source(config, "eval")
    scores = {
        step: evaluate_detector(load_detector(finished, step=step), source).metrics.summary["AP"]
        for step in (24, earlier)
    }
    assert scores[best] == max(scores.values())


def test_a_finished_run_is_evaluated_again_on_other_data(
    finished, tiny_config, run_training, monkeypatch
):
    before = read_metrics(finished)
    config = tiny_config()
    config.data.shapes.num_eval = 5
    with pytest.raises(UserError, match=r"data\.shapes\.num_eval=5"):
        run_training(config, finished)
    assert read_metrics(finished) == before
    # Of the same name, with other boxes.
    sources = building.sources

    def changed(config):
        training, evaluation = sources(config)
        truth = evaluation.ground_truth()
        truth["annotations"] = truth["annotations"][1:]
        evaluation.ground_truth = lambda: truth
        return training, evaluation

    monkeypatch.setattr(building, "sources", changed)
    metrics = run_training(tiny_config(), finished)
    after = read_metrics(finished)
    assert after == {"step": 24, **metrics}
    assert after["evaluated_with"]["data"] != before["evaluated_with"]["data"]
    assert after["evaluated_with"]["boxes"] == before["evaluated_with"]["boxes"] - 1


@pytest.mark.parametrize("content", ["older", "damaged", "other step", "absent"])
def test_metrics_that_cannot_be_trusted_are_measured_again(
    content, finished, tiny_config, run_training
):
    before = read_metrics(finished)
    path = finished / "metrics.json"
    if content == "older":
        path.write_text(json.dumps({k: v for k, v in before.items() if k != "evaluated_with"}))
    elif content == "damaged":
        path.write_text("{")
    elif content == "other step":
        path.write_text(json.dumps(before | {"step": 12}))
    else:
        path.unlink()
    run_training(tiny_config(), finished)
    assert read_metrics(finished) == before


def test_a_crash_while_results_are_written_is_noticed(
    finished, tiny_config, run_training, monkeypatch
):
    """Whenever it comes, the next start ends with files that belong together."""
    config = tiny_config()
    config.eval.max_detections = 1

    def crash(*_, **__):
        raise RuntimeError("crash")

    for function in ("write_detections", "write_metrics"):
        with monkeypatch.context() as patch:
            patch.setattr(evaluating, function, crash)
            with pytest.raises(RuntimeError, match="crash"):
                run_training(config, finished)
        assert not (finished / "metrics.json").exists()
        assert not (finished / "finished.json").exists()
    run_training(config, finished)
    assert read_metrics(finished)["num_detections"] == 11
    assert len(json.loads((finished / "detections.json").read_text())) == 11


def test_a_run_beyond_its_new_end_is_left_as_it_was_trained(
    finished, tiny_config, run_training, capsys
):
    config = tiny_config()
    config.train.steps = 9
    config.log.progress = True
    before = read_metrics(finished)
    run_training(config, finished)
    said = capsys.readouterr().err
    assert "at step 24, beyond the end of the new schedule, step 9, because train.steps " in said
    assert "steps 24 to" not in said
    assert json.loads((finished / "config.json").read_text())["train"]["steps"] == 24
    assert read_metrics(finished) == before


def test_raw_weights_are_evaluated_beside_the_averaged_ones(
    trained, tiny_config, run_training, tmp_path
):
    shutil.copytree(trained, tmp_path / "run")
    expected = json.loads((trained / "metrics.json").read_text())
    (tmp_path / "run" / "metrics.json").unlink()
    config = tiny_config()
    config.eval.weights = "both"
    metrics = run_training(config, tmp_path / "run")
    assert metrics["AP"] == expected["AP"]
    assert metrics["raw_AP"] != metrics["AP"]
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert found.pop("evaluated_with") == expected.pop("evaluated_with") | {"weights": "both"}
    assert {name: found[name] for name in expected} == expected
    assert {"step": 24} | metrics == json.loads((tmp_path / "run" / "metrics.json").read_text())
