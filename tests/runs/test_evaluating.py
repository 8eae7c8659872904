"""What an evaluation during training takes from the config, and what it leaves in the workdir."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.data.sources.relabelling import Relabelled
from bifpn_jax.postprocessing import Detections
from bifpn_jax.recipe import base, building
from bifpn_jax.runs.evaluating import make_evaluation

OBJECTS = 150
STATE = SimpleNamespace(step=7, variables=lambda ema: None)


class OneImage:
    """150 objects of one class in an image, and a category that nothing is of."""

    name, left_out = "val.json", ()
    label_map = LabelMap((1, 2), ("dog", "cat"))

    def ground_truth(self):
        return {
            "images": [{"id": 1}],
            "annotations": [
                {"image_id": 1, "category_id": 2, "bbox": [12.0 * i, 0, 10, 10]}
                for i in range(OBJECTS)
            ],
            "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        }

    def summary(self):
        return self.name


@pytest.fixture
def evaluate(monkeypatch, tmp_path):
    """Evaluates a model that finds every object, as label 0, cut to the config's limit."""

    def run(source, num_classes, **settings):
        config = base.get_config("d0")
        config.checkpoint.best_metric = settings.pop("best_metric", "AP")
        config.eval.update(settings)
        config.log.progress = False
        left = 12.0 * np.arange(OBJECTS)
        boxes = np.stack([0 * left, left, 0 * left + 10, left + 10], axis=1)
        best = slice(config.eval.max_detections)
        found = Detections(
            boxes[None, best],
            np.linspace(0.9, 0.5, OBJECTS)[None, best],
            np.zeros((1, OBJECTS), np.int32)[:, best],
        )
        batches = [{"image_id": np.array([1]), "mask": np.array([True])}]
        monkeypatch.setattr(building, "predict_fn", lambda *_: lambda *_: found)
        monkeypatch.setattr(building, "evaluation_batches", lambda *_, **__: batches)
        model = SimpleNamespace(num_classes=num_classes)
        metrics = make_evaluation(config, model, source)(STATE, tmp_path)
        written = json.loads((tmp_path / "metrics.json").read_text())
        return metrics, written, json.loads((tmp_path / "detections.json").read_text())

    return run


# The model's only class is called cat; the file has that as its second, with the id 2.
@pytest.mark.parametrize(("limit", "points"), [(1, 1), (10, 7), (100, 67), (150, 101), (1000, 101)])
def test_the_limit_of_the_config_is_that_of_the_metric(evaluate, limit, points):
    source = Relabelled(OneImage(), LabelMap((1,), ("cat",)))
    metrics, written, detections = evaluate(source, 1, max_detections=limit)
    assert metrics["AP"] == pytest.approx(points / 101)
    assert metrics[f"AR{limit}"] == pytest.approx(min(limit, OBJECTS) / OBJECTS)
    assert written == {"step": 7, "num_classes": 1, **metrics}
    assert written["max_detections"] == limit
    assert len(detections) == min(limit, OBJECTS)
    assert {entry["category_id"] for entry in detections} == {2}
    assert list(written["per_class"]) == ["dog", "cat"]


def test_both_kinds_of_weights_have_the_limit(evaluate):
    source = Relabelled(OneImage(), LabelMap((1, 8), ("cat", "dog")))
    metrics, written, _ = evaluate(source, 2, max_detections=150, weights="both")
    assert metrics["raw_AR150"] == metrics["AR150"] == pytest.approx(1.0)
    assert metrics["raw_AR100"] == pytest.approx(100 / 150)
    assert "num_classes" not in written  # as many as the file has
