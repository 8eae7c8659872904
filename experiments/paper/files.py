"""Writes tables and figures into a folder, and combines all of them in one page, results.md."""

import re
from collections.abc import Sequence
from pathlib import Path

from experiments.paper.table import Table, to_csv, to_markdown

RESULTS_FILE = "results.md"
_PARTS = ("table*.md", "study_*.md", "figure*.md")


def write_table(folder: Path, table: Table) -> list[str]:
    """Write a table as Markdown and CSV; return the names of the files."""
    (folder / f"{table.name}.md").write_text(to_markdown(table), "utf-8")
    (folder / f"{table.name}.csv").write_text(to_csv(table), "utf-8")
    return [f"{table.name}.md", f"{table.name}.csv"]


def write_figure_page(folder: Path, name: str, title: str, text: str, drawn: bool) -> str:
    """Write the page of a figure: heading, picture if it was drawn, caption; return its name."""
    picture = [f"![{title}]({name}.png)", ""] if drawn else []
    lines = [f"# {title}", "", *picture, text]
    (folder / f"{name}.md").write_text("\n".join(lines) + "\n", "utf-8")
    return f"{name}.md"


def write_results(folder: Path) -> str:
    """Combine the pages of all tables and figures in a folder; return the name of the page."""
    pages = [page for pattern in _PARTS for page in sorted(folder.glob(pattern), key=_order)]
    parts = [re.sub("^# ", "## ", page.read_text("utf-8")) for page in pages]
    (folder / RESULTS_FILE).write_text("\n".join(["# Results\n", *parts]), "utf-8")
    return RESULTS_FILE


def _order(path: Path) -> Sequence[str | int]:
    # table10 comes after table2.
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.stem)]
