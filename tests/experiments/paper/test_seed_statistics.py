"""Mean, spread and differences over seeds, and how tables show them."""

import csv
import math

import pytest

from experiments.paper.statistics import Difference, Measured, difference, t_quantile
from experiments.paper.table import (
    NOT_GIVEN,
    NOT_RUN,
    Column,
    Table,
    format_cell,
    to_csv,
    to_markdown,
)


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    # From printed tables of Student's t, two-sided 95 %.
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (10, 2.228), (30, 2.042), (120, 1.980)],
)
def test_quantiles_of_students_t(freedom, quantile):
    assert t_quantile(freedom) == pytest.approx(quantile, abs=6e-4)


def test_quantiles_of_students_t_in_closed_form():
    assert t_quantile(1.0) == pytest.approx(math.tan(0.95 * math.pi / 2), rel=1e-6)
    assert t_quantile(2.0, 0.9) == pytest.approx(0.9 * math.sqrt(2 / (1 - 0.9**2)), rel=1e-6)
    assert t_quantile(3.0) < t_quantile(2.5) < t_quantile(2.0)
    assert t_quantile(1000.0) == pytest.approx(1.9623, abs=1e-4)


def test_mean_and_sample_standard_deviation():
    measured = Measured((30.0, 32.0, 34.0))
    assert (measured.mean, measured.deviation, measured.n) == (32.0, 2.0, 3)
    assert math.isnan(Measured((30.0,)).deviation)


def test_difference_by_hand():
    # Variances 1 and 4 of three values: (1 + 4) / 3; degrees of freedom 25 / ((1 + 16) / 2).
    found = difference(Measured((40.0, 41.0, 42.0)), Measured((30.0, 32.0, 34.0)))
    assert found.value == pytest.approx(9.0)
    assert found.margin == pytest.approx(t_quantile(50 / 17) * math.sqrt(5 / 3))
    assert found.separated is True
    close = difference(Measured((21.0, 25.0)), Measured((20.0, 22.0)))
    assert close.value == 2.0
    assert close.separated is False


def test_difference_of_one_seed_or_without_spread():
    alone = difference(Measured((40.0,)), Measured((30.0, 32.0)))
    assert (alone.value, alone.separated) == (9.0, None)
    assert difference(Measured((3.0, 3.0)), Measured((2.0, 2.0))) == Difference(1.0, 0.0)
    assert difference(Measured((2.0, 2.0)), Measured((2.0, 2.0))).separated is False


def test_cells():
    assert format_cell(Measured((30.0, 32.0, 34.0)), 2) == "32.00 ± 2.00 (n=3)"
    assert format_cell(Measured((30.04,)), 1) == "30.0 (n=1)"
    assert format_cell(-0.001, 2) == "0.00"
    assert format_cell(-0.11, 2) == "-0.11"
    assert [format_cell(v) for v in (3.9, 12, 8.097039, 410.0)] == ["3.9", "12", "8.097", "410"]
    assert format_cell(NOT_RUN, 2) == "not run"


def test_markdown_and_csv():
    columns = [Column("Row"), Column("AP", 1), Column("Size")]
    rows = [["a", Measured((1.0, 2.0)), 0.5], ["b", NOT_RUN, 0.25], ["c", 3.0, "x, y"]]
    table = Table("t", "A title", columns, rows, "The caption.", ["A note."])
    assert to_markdown(table).splitlines() == [
        "# A title",
        "",
        "| Row | AP | Size |",
        "| :--- | ---: | ---: |",
        "| a | 1.5 ± 0.7 (n=2) | 0.5 |",
        "| b | not run | 0.25 |",
        "| c | 3.0 | x, y |",
        "",
        "The caption.",
        "",
        "A note.",
    ]
    assert list(csv.reader(to_csv(table).splitlines())) == [
        ["Row", "AP", "AP: standard deviation", "AP: n", "Size"],
        ["a", "1.5", "0.70710678", "2", "0.5"],
        ["b", NOT_RUN, NOT_RUN, NOT_RUN, "0.25"],
        ["c", "3", NOT_GIVEN, NOT_GIVEN, "x, y"],
    ]
