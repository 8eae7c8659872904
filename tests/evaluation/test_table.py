import math

import pytest

from bifpn_jax.evaluation.metrics import SUMMARY_NAMES, CocoMetrics, summary_names
from bifpn_jax.evaluation.table import metrics_table


def test_every_number_is_there():
    summary = {name: (i + 1) / 100 + 0.001 for i, name in enumerate(SUMMARY_NAMES)}
    classes = {"a": 0.5, "a long name": math.nan, "c": 1.0}
    table = metrics_table(CocoMetrics(summary | {"APl": math.nan}, classes, 12, 345)).splitlines()
    assert table[0] == "12 images, 345 detections"
    rows = {line.split()[0]: line.split()[1] for line in table[2:14]}
    assert list(rows) == list(SUMMARY_NAMES)
    assert (rows["AP"], rows["APl"], rows["ARl"]) == ("0.0110", "-", "0.1210")
    assert table[-2:] == [
        "AP per class",
        "a            0.5000    a long name    -       c            1.0000",
    ]


def test_many_classes_are_in_columns_read_downwards():
    summary = dict.fromkeys(SUMMARY_NAMES, 0.5)
    classes = {f"class-{i:02}": i / 100 for i in range(80)}
    rows = metrics_table(CocoMetrics(summary, classes, 1, 1)).splitlines()[16:]
    assert max(map(len, rows)) <= 100
    assert rows[0].startswith("class-00  0.0000    class-1")
    assert rows[1].startswith("class-01  0.0100    ")
    assert sum(row.count("class-") for row in rows) == 80


@pytest.mark.parametrize(
    ("limit", "recalls"),
    [
        (1, {"AR1": "1 detection per image and class"}),
        (5, {"AR1": "1 detection per image and class", "AR5": "with 5"}),
        (10, {"AR1": "1 detection per image and class", "AR10": "with 10"}),
        (100, {"AR1": "1 detection", "AR10": "with 10", "AR100": "with 100"}),
        (150, {"AR1": "1 detection", "AR10": "with 10", "AR100": "with 100", "AR150": "with 150"}),
    ],
)
def test_recalls_say_their_limit(limit, recalls):
    summary = dict.fromkeys(summary_names(limit), 0.5)
    metrics = CocoMetrics(summary, {"a": 0.5}, 1, 1, limit)
    rows = metrics_table(metrics).splitlines()
    found = {row.split()[0]: row for row in rows[8:-6]}
    assert list(found) == list(recalls)
    for name, meaning in recalls.items():
        assert meaning in found[name]
    assert (f"up to {limit} count per image and class" in rows[0]) == (limit != 100)
    assert (f"AR{limit} 0.5000" in str(metrics)) is True
    assert [name for name in str(metrics).split() if name.startswith("AR")][:-3] == list(recalls)


def test_metrics_of_ones_own_come_between():
    metrics = CocoMetrics(dict.fromkeys(SUMMARY_NAMES, 0.5), {"a": 0.5}, 1, 1)
    with_own = metrics_table(metrics, {"count_error": 12.25, "b": None}).splitlines()
    assert with_own[14:18] == ["", "your own metrics", "count_error  12.25", "b            -"]
    assert with_own[:14] + with_own[18:] == metrics_table(metrics).splitlines()
