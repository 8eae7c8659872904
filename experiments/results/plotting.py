"""One plain look for all figures, and writing them as PNG and SVG."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.results.statistics import Measured

# Multiply-adds in billions, and AP.
Points = Sequence[tuple[float, Measured]]

# Okabe and Ito's colours, which people with any colour vision can tell apart.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#777777"

_STYLE = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "bifpn_jax",  # the same picture gives the same file
}


@contextmanager
def plain_style() -> Iterator[None]:
    """Context in which figures are drawn and written."""
    from matplotlib import rc_context

    with rc_context(_STYLE):
        yield


def new_figure(columns: int, *, width: float, height: float) -> tuple[Any, list[Any]]:
    """A figure of panels side by side, and their axes; sizes in inches, of one panel."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * width, height), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def save_figure(figure: Any, folder: Path, name: str) -> list[str]:
    """Writes a figure as PNG and SVG; returns the names of the files."""
    figure.savefig(folder / f"{name}.png", dpi=150)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    return [f"{name}.png", f"{name}.svg"]


def plot_points(axes: Any, points: Points, **style: Any) -> None:
    """Draws AP over multiply-adds, with standard deviations as bars where there are any."""
    axes.errorbar(
        [cost for cost, _ in points],
        [ap.mean for _, ap in points],
        yerr=[0.0 if ap.n < 2 else ap.deviation for _, ap in points],
        capsize=2,
        **style,
    )


def name_cost_axes(axes: Any, costs: Sequence[float]) -> None:
    """Names the axes of AP over multiply-adds; those are in billions, and shown in millions if few.

    Args:
        axes: what to name.
        costs: all that are drawn.
    """
    from matplotlib.ticker import FuncFormatter

    unit, factor = ("billions", 1) if max(costs) >= 1 else ("millions", 1000)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: f"{factor * cost:g}"))
    axes.set_xlabel(f"multiply-adds, {unit}")
    axes.set_ylabel("AP")
