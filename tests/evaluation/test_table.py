import math

from bifpn_jax.evaluation.metrics import SUMMARY_NAMES, CocoMetrics
from bifpn_jax.evaluation.table import metrics_table


def test_every_number_is_there():
    summary = {name: (i + 1) / 100 + 0.001 for i, name in enumerate(SUMMARY_NAMES)}
    classes = {"a": 0.5, "a long name": math.nan, "c": 1.0}
    table = metrics_table(CocoMetrics(summary | {"APl": math.nan}, classes, 12, 345)).splitlines()
    assert table[0] == "12 images, 345 detections"
    rows = {line.split()[0]: line.split()[1] for line in table[2:14]}
    assert list(rows) == list(SUMMARY_NAMES)
    assert (rows["AP"], rows["APl"], rows["ARl"]) == ("1.1", "-", "12.1")
    assert table[-2:] == [
        "AP per class",
        "a             50.0    a long name      -    c            100.0",
    ]


def test_many_classes_are_in_columns_read_downwards():
    summary = dict.fromkeys(SUMMARY_NAMES, 0.5)
    classes = {f"class-{i:02}": i / 100 for i in range(80)}
    rows = metrics_table(CocoMetrics(summary, classes, 1, 1)).splitlines()[16:]
    assert max(map(len, rows)) <= 100
    assert rows[0].startswith("class-00    0.0    class-1")
    assert rows[1].startswith("class-01    1.0    ")
    assert sum(row.count("class-") for row in rows) == 80
