"""The numbers of a benchmark as tables and as JSON."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bifpn_jax.json_files import replace_text, write_json
from experiments.paper.table import Column, Table, to_markdown
from experiments.performance.ceilings import Ceilings, Share
from experiments.performance.contest import OURS, Contest

JSON_FILE, PAGE_FILE = "benchmark.json", "benchmark.md"

_NAMES = {"backbone_features": "backbone", "network_features": "feature network"}


def contest_table(contests: Sequence[Contest]) -> Table:
    """Return a row per other contestant, or one row if there are no others."""
    rows, notes = [], []
    for contest in contests:
        label = f"{contest.work}, {contest.model}" if contest.model else contest.work
        ours = _amount(contest.values[OURS], contest.unit)
        for name in contest.others:
            ratios = contest.ratios(name)
            theirs = _amount(contest.values[name], contest.unit)
            ratio = f"{statistics.median(ratios):.2f}"
            rows.append((label, ours, name, theirs, ratio, _spread(ratios)))
        if not contest.others:
            rows.append((label, ours, "", "", "", ""))
        notes += [f"{label}: {remark}." for remark in contest.remarks]
    columns = ("work", "bifpn_jax", "other", "other's", "ratio", "ratios from – to")
    return Table(
        "benchmark",
        "Beside others",
        [Column(title) for title in columns],
        rows,
        "Medians; the programs took turns, and a ratio is the other's over ours in one turn: above "
        "1, ours is faster or smaller. The last column holds the middle half of the ratios.",
        notes,
    )


def share_table(ceilings: Ceilings, shares: Mapping[str, Sequence[Share]]) -> Table:
    """Return a row per part of each forward pass."""
    rows = [
        (
            f"{case}: {_NAMES.get(share.part, share.part)}",
            f"{share.seconds * 1e3:.1f}",
            f"{share.flops / 1e9:.2f}",
            f"{share.bytes / 1e6:.0f}",
            f"{100 * share.flops / share.seconds / ceilings.flops:.0f}",
            f"{100 * share.bytes / share.seconds / ceilings.bandwidth:.0f}",
        )
        for case, parts in shares.items()
        for share in parts
    ]
    columns = ("part", "ms", "G operations", "MB", "% of matmul", "% of bandwidth")
    return Table(
        "ceilings",
        "Share of what the machine can do",
        [Column(title) for title in columns],
        rows,
        f"A large matrix product runs at {ceilings.flops / 1e9:.0f} G operations/s here, a sum of "
        f"two large arrays at {ceilings.bandwidth / 1e9:.1f} GB/s. Operations and bytes are XLA's "
        "count for the compiled program.",
    )


def write_report(
    folder: Path,
    setting: Mapping[str, Any],
    contests: Sequence[Contest],
    ceilings: Ceilings | None,
    shares: Mapping[str, Sequence[Share]],
) -> str:
    """Write both files; return the page."""
    lines = "\n".join(f"- {name}: {value}" for name, value in setting.items())
    tables = [contest_table(contests)] if contests else []
    if ceilings is not None:
        tables.append(share_table(ceilings, shares))
    page = "\n".join(["# Benchmark", "", lines, "", *map(to_markdown, tables)])
    content = {
        "setting": dict(setting),
        "contests": [contest.as_json() for contest in contests],
        "ceilings": ceilings._asdict() if ceilings else None,
        "shares": {case: [share._asdict() for share in parts] for case, parts in shares.items()},
    }
    write_json(folder / JSON_FILE, content)
    replace_text(folder / PAGE_FILE, page)
    return page


def _amount(values: Sequence[float], unit: str) -> str:
    value = statistics.median(values)
    if unit != "s":
        return f"{value:,.0f} {unit}"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1e3:.1f} ms"


def _spread(ratios: Sequence[float]) -> str:
    if len(ratios) < 2:
        return ""
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{low:.2f} – {high:.2f}"
