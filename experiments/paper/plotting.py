"""A common plain style for all figures, and writing them as PNG and SVG."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from experiments.paper.statistics import Measured

# Multiply-adds in billions, and AP.
Points = Sequence[tuple[float, Measured]]

# Okabe and Ito's colours, which can be told apart with any colour vision.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#777777"

_LOG_FROM = 20  # from this many times the smallest cost, the axis is logarithmic
_LEAST_AP_SPAN = 0.02

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
    """Context manager in which figures are drawn and written."""
    from matplotlib import rc_context

    with rc_context(_STYLE):
        yield


def new_figure(columns: int, *, width: float, height: float) -> tuple[Any, list[Any]]:
    """Return a figure of panels side by side, and their axes; sizes in inches, per panel."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * width, height), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def save_figure(figure: Any, folder: Path, name: str) -> list[str]:
    """Write a figure as PNG and SVG; return the names of the files."""
    figure.savefig(folder / f"{name}.png", dpi=150)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    return [f"{name}.png", f"{name}.svg"]


def plot_points(axes: Any, points: Points, **style: Any) -> None:
    """Draw AP over multiply-adds, with standard deviations, if any, as error bars."""
    axes.errorbar(
        [cost for cost, _ in points],
        [ap.mean for _, ap in points],
        yerr=[0.0 if ap.n < 2 else ap.deviation for _, ap in points],
        capsize=2,
        **style,
    )


def name_cost_axes(axes: Any, costs: Sequence[float], aps: Sequence[Measured] = ()) -> None:
    """Label the axes of AP over multiply-adds, and set their limits and ticks.

    Costs are in billions, and shown in millions if all are less than one. If the largest is many
    times the smallest, the axis is logarithmic.

    Args:
        axes: the axes to label.
        costs: all costs that are drawn.
        aps: all AP that are drawn; without them the limits of AP are left unchanged.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    unit, factor = ("billions", 1) if max(costs) >= 1 else ("millions", 1000)
    low, high, ticks = cost_ticks(factor * min(costs), factor * max(costs))
    is_log = high / low >= _LOG_FROM and low > 0
    axes.set_xscale("log" if is_log else "linear")
    axes.set_xlim(low / factor, high / factor)
    axes.xaxis.set_major_locator(FixedLocator([tick / factor for tick in ticks]))
    decimals = _decimals(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: _number(factor * cost, decimals)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"multiply-adds, {unit}")
    axes.set_ylabel("AP")
    if aps:
        bars = [0.0 if ap.n < 2 else ap.deviation for ap in aps]
        least = min(ap.mean - bar for ap, bar in zip(aps, bars, strict=True))
        most = max(ap.mean + bar for ap, bar in zip(aps, bars, strict=True))
        margin = max(0.08 * (most - least), _LEAST_AP_SPAN / 2 - (most - least) / 2)
        # A little below 0, so that markers at 0 are not cut off.
        bottom = max(least - margin, -0.04 * (most + margin))
        axes.set_ylim(bottom, most + margin)


def cost_ticks(low: float, high: float) -> tuple[float, float, list[float]]:
    """Return limits around costs from ``low`` to ``high``, above 0, with at least two ticks."""
    from matplotlib.ticker import MaxNLocator

    if high >= _LOG_FROM * low:
        low, high = low / 1.5, high * 1.5
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1, 2, 5) if high < 300 * low else (1,)
        # As in 2e-3, which is the nearest number there is, not 2 * 10.0**-3.
        ticks = [float(f"{step}e{decade}") for decade in decades for step in steps]
    else:
        margin = 0.06 * (high - low) if high - low > 0.01 * high else 0.05 * high
        low, high = low - margin, high + margin
        ticks = MaxNLocator(6, steps=(1, 2, 2.5, 5, 10), min_n_ticks=3).tick_values(low, high)
    return low, high, [float(tick) for tick in ticks if low <= tick <= high]


def shortened(text: str, letters: int) -> str:
    """Shorten a text to at most so many letters: its beginning and end around an ellipsis."""
    if len(text) <= letters:
        return text
    end = (letters - 1) // 2
    return f"{text[: letters - 1 - end]}…{text[-end:]}"


def legend_below(axes: Any, columns: int) -> None:
    """Put the legend below the axes, where it hides nothing."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=columns)


def _decimals(ticks: Sequence[float]) -> int:
    """Return the fewest decimals, at most 9, with which all ticks are exact."""
    scale = 1e-6 * min((b - a for a, b in pairwise(ticks)), default=1.0)
    fits = (n for n in range(9) if all(abs(round(tick, n) - tick) <= scale for tick in ticks))
    return next(fits, 9)


def _number(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
