"""A table as a value, as Markdown and as CSV. Cells for which nothing was run say so."""

import csv
import io
import math
from collections.abc import Sequence
from typing import NamedTuple

from experiments.paper.statistics import Measured

NOT_RUN = "not run"
NOT_GIVEN = "not in the paper"

Cell = str | float | Measured


class Column(NamedTuple):
    """A column.

    Attributes:
        title: the title, with the unit and whose number it is.
        digits: decimals of its numbers; None for four significant digits.
    """

    title: str
    digits: int | None = None


class Table(NamedTuple):
    """A table with its caption.

    Attributes:
        name: name of its files, "table5".
        title: "Table 5: feature networks".
        columns: from left to right; the first names the rows.
        rows: a cell per column; see `or_not_run` for missing numbers.
        caption: what the numbers are.
        notes: further lines: what was left out, what is worth knowing.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    caption: str
    notes: Sequence[str] = ()


def or_not_run(value: Cell | None) -> Cell:
    """Return the value, or the text for a number of ours that does not exist yet."""
    return NOT_RUN if value is None else value


def or_not_given(value: Cell | None) -> Cell:
    """Return the value, or the text for a number that the paper does not have."""
    return NOT_GIVEN if value is None else value


def to_markdown(table: Table) -> str:
    """Return heading, table, caption and notes as Markdown."""
    lines = [f"# {table.title}", ""]
    lines += [_line(column.title for column in table.columns)]
    lines += [_line([":---", *["---:"] * (len(table.columns) - 1)])]
    for row in table.rows:
        cells = zip(row, table.columns, strict=True)
        lines.append(_line(format_cell(cell, column.digits) for cell, column in cells))
    for text in (table.caption, *table.notes):
        lines += ["", text]
    return "\n".join(lines) + "\n"


def to_csv(table: Table) -> str:
    """Return the table as CSV; quantities over seeds become mean, standard deviation and n."""
    spread = [
        any(isinstance(row[i], Measured) for row in table.rows) for i in range(len(table.columns))
    ]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    titles = []
    for column, wide in zip(table.columns, spread, strict=True):
        titles.append(column.title)
        titles += [f"{column.title}: standard deviation", f"{column.title}: n"] if wide else []
    writer.writerow(titles)
    for row in table.rows:
        cells = []
        for cell, wide in zip(row, spread, strict=True):
            cells += _expand(cell) if wide else [_plain(cell)]
        writer.writerow(cells)
    return stream.getvalue()


def format_cell(cell: Cell, digits: int | None = None) -> str:
    """Format a cell: "34.60 ± 0.21 (n=3)", "34.60 (n=1)", "34.60", or the text itself."""
    if isinstance(cell, Measured):
        spread = "" if math.isnan(cell.deviation) else f" ± {_number(cell.deviation, digits)}"
        return f"{_number(cell.mean, digits)}{spread} (n={cell.n})"
    return cell if isinstance(cell, str) else _number(cell, digits)


def _number(value: float, digits: int | None) -> str:
    if digits is None:
        return f"{value:.4g}"
    text = f"{value:.{digits}f}"
    # A rounded -0.001 is no negative number.
    return text.removeprefix("-") if float(text) == 0 else text


def _expand(cell: Cell) -> list[str]:
    if not isinstance(cell, Measured):
        return [_plain(cell), *[cell if isinstance(cell, str) else NOT_GIVEN] * 2]
    deviation = "one run" if math.isnan(cell.deviation) else _plain(cell.deviation)
    return [_plain(cell.mean), deviation, str(cell.n)]


def _plain(cell: str | float) -> str:
    return cell if isinstance(cell, str) else f"{cell:.8g}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
