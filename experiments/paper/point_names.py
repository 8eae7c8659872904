"""Places names next to the points of a figure, clear of each other, of points and of curves."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from experiments.paper.plotting import GREY, shortened

_SIZE = 7  # of the letters, in points
_MOST_LETTERS = 30
_MARKER = 4.5  # half the side of the square that is kept free around every point
# Possible distances of a name from its point, in points, each in several directions. A name that is
# not next to its point is connected to it by a thin line.
_DISTANCES = (6, 9, 14, 20, 28, 38, 50, 64, 80, 100, 125)
_BESIDE = 9
_DIRECTIONS = 16
_SWEEPS = 4


class NamedPoint(NamedTuple):
    """A point in the units of its axes, with the name next to it.

    Attributes:
        name: the name; long names are shortened.
        x, y: the point.
        deviation: half the length of its error bar.
        color: color of the name.
    """

    name: str
    x: float
    y: float
    deviation: float
    color: str


def name_points(axes: Any, points: Sequence[NamedPoint]) -> None:
    """Draw the names of points. Must come last, because it computes the figure's layout."""
    if not points:
        return
    figure = axes.get_figure()
    notes = [
        axes.annotate(
            shortened(point.name, _MOST_LETTERS),
            (point.x, point.y),
            xytext=(0, 0),
            textcoords="offset points",
            va="bottom",
            fontsize=_SIZE,
            color=point.color,
            annotation_clip=False,
            in_layout=False,
        )
        for point in points
    ]
    others = [text for text in axes.texts if text not in notes and text.get_visible()]
    figure.draw_without_rendering()
    per_point = figure.dpi / 72
    at = _in_points(axes, [(point.x, point.y) for point in points])  # [N, 2]
    sizes = np.array(
        [_extent(note, per_point)[2:] - _extent(note, per_point)[:2] for note in notes]
    )
    fixed = [_extent(text, per_point) for text in others]
    fixed += [np.concatenate([place - _MARKER, place + _MARKER]) for place in at]
    bounds = axes.get_window_extent()
    frame = np.array([bounds.x0, bounds.y0, bounds.x1, bounds.y1]) / per_point
    ink = _ink(axes, points)
    boxes = _arrange(at, sizes, np.array(fixed), frame, ink)
    for note, place, box in zip(notes, at, boxes, strict=True):
        note.xyann = tuple((box[:2] - place).tolist())
        if _distance(box[None], place)[0] > _BESIDE + 1:
            _draw_leader(axes, note, place, box)


def _arrange(
    at: np.ndarray, sizes: np.ndarray, fixed: np.ndarray, frame: np.ndarray, ink: np.ndarray
) -> np.ndarray:
    """Return boxes [N, 4] for names of sizes [N, 2] at points [N, 2]; in points, x before y.

    Each name in turn takes the cheapest place with the others fixed, for several rounds.
    """
    crowd = (np.abs(at[:, None] - at[None]).max(axis=2) < 30).sum(axis=1)
    order = np.argsort(-crowd, kind="stable")
    options = [_candidates(place, size) for place, size in zip(at, sizes, strict=True)]
    alone = [
        _cost_alone(boxes, place, fixed, frame, ink)
        for boxes, place in zip(options, at, strict=True)
    ]
    chosen: dict[int, int] = {}
    for _ in range(_SWEEPS):
        before = dict(chosen)
        for n in order.tolist():
            rest = [m for m in chosen if m != n]
            cost = alone[n].copy()
            if rest:
                boxes = np.array([options[m][chosen[m]] for m in rest])
                cost += 40 * _overlap(options[n], boxes).sum(axis=1)
                cost += 15 * _crossings(options[n], at[n], boxes)
                for m, box in zip(rest, boxes, strict=True):
                    cost += 15 * _leader_hits(at[m], box, options[n])
            chosen[n] = int(np.argmin(cost))
        if chosen == before:
            break
    return np.array([options[n][chosen[n]] for n in range(len(at))])


def _candidates(place: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return boxes [P, 4] around a point, the nearest and the rightmost first."""
    boxes = []
    for distance in _DISTANCES:
        for direction in range(_DIRECTIONS):
            angle = 2 * np.pi * direction / _DIRECTIONS
            towards = np.array([np.cos(angle), np.sin(angle)])
            # The nearest point of the box lies in this direction, the rest of the box beyond it.
            centre = place + towards * distance + np.clip(1.5 * towards, -1, 1) * size / 2
            boxes.append(np.concatenate([centre - size / 2, centre + size / 2]))
    return np.array(boxes)


def _cost_alone(
    boxes: np.ndarray, place: np.ndarray, fixed: np.ndarray, frame: np.ndarray, ink: np.ndarray
) -> np.ndarray:
    """Return the costs [P] of candidates that do not depend on the other names."""
    outside = np.maximum(frame[None, :2] - boxes[:, :2], 0).sum(axis=1)
    outside += np.maximum(boxes[:, 2:] - frame[None, 2:], 0).sum(axis=1)
    inked = ((ink[None] > boxes[:, None, :2] - 1) & (ink[None] < boxes[:, None, 2:] + 1)).all(
        axis=2
    )
    left = boxes[:, 2] < place[0]
    return (
        _distance(boxes, place)
        + 2.0 * left
        + 200 * outside
        + 40 * _overlap(boxes, fixed).sum(axis=1)
        + 10 * inked.sum(axis=1)
        + 5 * _crossings(boxes, place, fixed)
    )


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return common areas [P, Q] of boxes [P, 4] and [Q, 4], with a margin of one point."""
    low = np.maximum(a[:, None, :2], b[None, :, :2] - 1)
    high = np.minimum(a[:, None, 2:], b[None, :, 2:] + 1)
    return np.maximum(high - low, 0).prod(axis=2)


def _distance(boxes: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return the distances [P] of boxes [P, 4] from a point."""
    return np.linalg.norm(_nearest(boxes, place) - place[None], axis=1)


def _nearest(boxes: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return the points [P, 2] of boxes [P, 4] that are nearest to a place."""
    return np.clip(place[None], boxes[:, :2], boxes[:, 2:])


def _crossings(boxes: np.ndarray, place: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return how many other boxes [Q, 4] the lines from a place to its boxes [P, 4] cross: [P]."""
    share = np.linspace(0.35, 1, 6)[None, :, None]
    line = place[None, None] + share * (_nearest(boxes, place) - place[None])[:, None]  # [P, 6, 2]
    inside = (line[:, :, None] > others[None, None, :, :2]) & (
        line[:, :, None] < others[None, None, :, 2:]
    )
    return inside.all(axis=3).any(axis=1).sum(axis=1)


def _leader_hits(place: np.ndarray, box: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Whether the line from a place to its box crosses candidates [P, 4]: [P]."""
    share = np.linspace(0.2, 0.95, 6)[:, None]
    line = place[None] + share * (_nearest(box[None], place) - place[None])  # [6, 2]
    inside = (line[None] > candidates[:, None, :2]) & (line[None] < candidates[:, None, 2:])
    return inside.all(axis=2).any(axis=1)


def _ink(axes: Any, points: Sequence[NamedPoint]) -> np.ndarray:
    """Return places [Q, 2], in points, along the curves and error bars of axes."""
    paths = [line.get_xydata() for line in axes.lines if line.get_linestyle() not in ("None", "")]
    paths += [
        np.array([(p.x, p.y - p.deviation), (p.x, p.y + p.deviation)])
        for p in points
        if p.deviation > 0
    ]
    places = [np.zeros((0, 2))]
    for path in paths:
        corners = _in_points(axes, path)
        for start, end in pairwise(corners):
            steps = max(2, int(np.linalg.norm(end - start) / 4))
            places.append(start[None] + np.linspace(0, 1, steps)[:, None] * (end - start)[None])
    return np.concatenate(places)


def _in_points(axes: Any, places: Any) -> np.ndarray:
    return axes.transData.transform(np.asarray(places, float)) * 72 / axes.get_figure().dpi


def _extent(text: Any, per_point: float) -> np.ndarray:
    extent = text.get_window_extent()
    return np.array([extent.x0, extent.y0, extent.x1, extent.y1]) / per_point


def _draw_leader(axes: Any, note: Any, place: np.ndarray, box: np.ndarray) -> None:
    """Draw a thin line from a point to the nearest place of its name's box."""
    end = _nearest(box[None], place)[0] - place
    axes.annotate(
        "",
        note.xy,
        xytext=tuple(end.tolist()),
        textcoords="offset points",
        arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3},
        annotation_clip=False,
        in_layout=False,
        zorder=1,
    )
