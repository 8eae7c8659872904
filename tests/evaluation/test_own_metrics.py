import math

import pytest

from bifpn_jax.errors import UserError
from bifpn_jax.evaluation.own_metrics import find_metric, metric_names, own_metrics
from bifpn_jax.named_parts import trust_code


def test_numbers_of_several_metrics():
    metrics = [lambda truth, found: {"a": len(found)}, lambda *_: {"b": math.nan}]
    assert own_metrics(metrics, {}, [{}, {}]) == {"a": 2.0, "b": None}


@pytest.mark.parametrize(
    "name", ["AP", "data", "APs", "AR100", "AR150", "raw_AP", "step", "per_class"]
)
def test_no_metric_takes_the_place_of_cocos_numbers(name):
    with pytest.raises(UserError, match=f"there is a metric '{name}' already; rename it"):
        own_metrics([lambda *_: {name: 1.0}], {}, [])


def test_two_metrics_of_one_name():
    with pytest.raises(UserError, match="'a' already"):
        own_metrics([lambda *_: {"a": 1}] * 2, {}, [])


@pytest.mark.parametrize(("value", "message"), [({"a": "x"}, "is not a number"), (3, "returns 3")])
def test_what_is_no_number(value, message):
    with pytest.raises(UserError, match=message):
        own_metrics([lambda *_: value], {}, [])


def test_a_metric_that_fails_is_one_line():
    def ratio(ground_truth, detections):
        return {"a": 1 / len(detections)}

    with pytest.raises(UserError, match=r"fails: ZeroDivisionError: .*test_own_metrics\.py, line"):
        own_metrics([ratio], {}, [])
    assert metric_names([ratio], {}) is None
    assert metric_names([lambda *_: {"a": 1, "b": math.nan}], {}) == ["a", "b"]


def test_a_metric_that_says_nothing_without_detections_has_unknown_names():
    metrics = [lambda *_: {"a": 1}, lambda _, detections: {"b": 1} if detections else {}]
    assert metric_names(metrics, {}) is None


def test_what_is_no_function(tmp_path):
    file = tmp_path / "my_metric.py"
    file.write_text("counted = 3")
    trust_code(f"{file}:counted")
    with pytest.raises(UserError, match=r"counted: this is a int; name a function"):
        find_metric(f"{file}:counted")
