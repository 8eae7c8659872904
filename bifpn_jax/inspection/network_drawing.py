"""Pictures of feature networks in the style of the paper's Figure 2: a row per level."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bifpn_jax.inspection.colors import COLORS
from bifpn_jax.models.graphs import Graph, Node, output_ids

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RADIUS = 0.17


class Place(NamedTuple):
    """Position of a feature: column 0 has the inputs, rows count up from the finest level."""

    column: int
    row: int


def layout(graph: Graph, min_level: int, max_level: int) -> list[Place]:
    """Return the places of the inputs and all nodes, in the order of their ids.

    A node is to the right of the features of its own level and not left of any other that it reads,
    so that a top-down or bottom-up path is a column.
    """
    places = [Place(0, row) for row in range(max_level - min_level + 1)]
    for node in graph:
        row = node.level - min_level
        own = [places[i].column + 1 for i in node.inputs if places[i].row == row]
        others = [places[i].column for i in node.inputs if places[i].row != row]
        column = max([1, *own, *others])
        while Place(column, row) in places:
            column += 1
        places.append(Place(column, row))
    return places


def is_bent(start: Place, end: Place, places: list[Place]) -> bool:
    """Whether the straight line between two places goes through a third one."""
    (x0, y0), (x1, y1) = start, end
    for x, y in set(places) - {start, end}:
        on_line = (x - x0) * (y1 - y0) == (y - y0) * (x1 - x0)
        if on_line and min(x0, x1) <= x <= max(x0, x1) and min(y0, y1) <= y <= max(y0, y1):
            return True
    return False


def draw_network(
    graph: Graph, min_level: int, max_level: int, title: str, paths: list[Path]
) -> None:
    """Draw a graph and write it to every path, in the format of its suffix.

    Circles are nodes with activation, convolution and batch norm; squares are nodes without the
    convolution; a double ring is NAS-FPN's attention. Outputs have a dark rim.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    places = layout(graph, min_level, max_level)
    count = max_level - min_level + 1
    outputs = set(output_ids(graph, min_level, max_level))
    columns = max(place.column for place in places)
    figure = Figure(figsize=(1.6 + 1.15 * (columns + 1), 1.0 + 0.95 * count))
    axes = figure.subplots()
    for row in range(count):
        axes.text(-0.45, row, f"P{min_level + row}", ha="right", va="center", fontsize=12)
    for n, node in enumerate(graph):
        for i in node.inputs:
            _draw_edge(axes, places[i], places[count + n], places, _color(places[i], count))
    for i, place in enumerate(places):
        node = graph[i - count] if i >= count else None
        _draw_node(axes, place, str(i), node, i in outputs, _color(place, count))
    axes.set_title(title, fontsize=13)
    axes.set_xlim(-0.8, columns + 0.6)
    axes.set_ylim(-0.6, count - 0.4)
    axes.set_aspect("equal")
    axes.axis("off")
    for path in paths:
        # Without a date and with fixed ids the same graph gives the same file.
        with rc_context({"svg.hashsalt": title}):
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(path, dpi=150, bbox_inches="tight", metadata=metadata)


def _color(place: Place, count: int) -> str:
    return COLORS[(count - 1 - place.row) % len(COLORS)]


def _draw_edge(axes: "Axes", start: Place, end: Place, places: list[Place], color: str) -> None:
    bend = 0.0
    if is_bent(start, end, places):
        # Along a row the arc goes below, along a column to the left.
        bend = -0.35 if end.row > start.row else 0.35
    axes.annotate(
        "",
        xy=end,
        xytext=start,
        arrowprops={
            "arrowstyle": "-|>",
            "color": color,
            "linewidth": 1.3,
            "shrinkA": 11,
            "shrinkB": 11,
            "connectionstyle": f"arc3,rad={bend}",
        },
    )


def _draw_node(
    axes: "Axes", place: Place, text: str, node: Node | None, is_output: bool, color: str
) -> None:
    from matplotlib.patches import Circle, Rectangle

    style = {
        "facecolor": color if node is not None else "white",
        "edgecolor": "black" if is_output else color,
        "linewidth": 2.0,
        "zorder": 3,
    }
    if node is not None and node.operation == "merge":
        side = 1.7 * _RADIUS
        corner = (place.column - side / 2, place.row - side / 2)
        axes.add_patch(Rectangle(corner, side, side, **style))
    else:
        axes.add_patch(Circle(place, _RADIUS, **style))
    if node is not None and node.fusion == "attention":
        axes.add_patch(Circle(place, 1.35 * _RADIUS, fill=False, edgecolor=color, zorder=3))
    text_color = "white" if node is not None else "black"
    axes.text(*place, text, ha="center", va="center", fontsize=8, color=text_color, zorder=4)
