"""Feature networks as data: which features each node fuses. No JAX in here.

A graph is a tuple of nodes. Ids 0 .. L-1 are the inputs, finest level first; node n of the tuple
has id L + n. The output of a graph at a level is its last node of that level, or the input where it
has none.

BiFPN for levels 3-7 (paper section 3.2, Figure 2d), ids as they stand in the code:

    P7  4 ──────────────────┬───────> 12
    P6  3 ──┬──> 5 <────────┘ ──────> 11     5 reads 3, 4      11 reads 3, 5, 10
    P5  2 ──┬──> 6 <─ 5       ──────> 10     6 reads 2, 5      10 reads 2, 6, 9
    P4  1 ──┬──> 7 <─ 6       ──────>  9     7 reads 1, 6       9 reads 1, 7, 8
    P3  0 ─────> 8 <─ 7                      8 reads 0, 7      12 reads 4, 11
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple


class Node(NamedTuple):
    """One fusion: the features with ids `inputs`, resampled to `level`.

    `fusion` is a key of `fusion.NORMALIZERS` where a node has its own instead of the network's.
    """

    level: int
    inputs: tuple[int, ...]
    fusion: str | None = None


Graph = tuple[Node, ...]


def bifpn(min_level: int, max_level: int) -> Graph:
    """Top-down, then bottom-up; bottom-up nodes also read the original input of their level.

    Args:
        min_level: the finest level, 3 in the paper.
        max_level: the coarsest level, 7 in the paper and 8 for D7x.
    """
    levels = range(min_level, max_level + 1)
    return _there_and_back(levels[::-1], first_id=len(levels))


def effdet_pan(min_level: int, max_level: int) -> Graph:
    """PANet (arXiv 1803.01534) as effdet has it: a node at every level, both ways.

    The first node on either way has a single input.
    """
    levels = range(min_level, max_level + 1)
    last = {level: i for i, level in enumerate(levels)}
    nodes = []
    for way in (levels[::-1], levels):
        previous = None
        for level in way:
            inputs = (last[level],) if previous is None else (last[level], previous)
            nodes.append(Node(level, inputs))
            previous = last[level] = len(levels) + len(nodes) - 1
    return tuple(nodes)


def qufpn(min_level: int, max_level: int) -> Graph:
    """Quad-directional FPN (ieeexplore.ieee.org/document/9225379), in TensorFlow's code and effdet.

    BiFPN, the same upside down, and a node per level that joins the two; these are fast normalised
    whatever the network's fusion, as in effdet.
    """
    levels = range(min_level, max_level + 1)
    count = len(levels)
    down_up = bifpn(min_level, max_level)
    up_down = _there_and_back(levels, first_id=count + len(down_up))
    halves = (
        output_ids(down_up, min_level, max_level),
        output_ids(up_down, min_level, max_level, first_id=count + len(down_up)),
    )
    joined = zip(levels, *halves, strict=True)
    return (*down_up, *up_down, *(Node(level, (a, b), "fast") for level, a, b in joined))


GRAPHS: dict[str, Callable[[int, int], Graph]] = {
    "bifpn": bifpn,
    "effdet_pan": effdet_pan,
    "qufpn": qufpn,
}


def output_ids(
    graph: Graph, min_level: int, max_level: int, first_id: int | None = None
) -> list[int]:
    """Id of the output per level, finest first; `first_id` is that of the graph's first node."""
    levels = range(min_level, max_level + 1)
    first_id = len(levels) if first_id is None else first_id
    last = {level: i for i, level in enumerate(levels)}
    last |= {node.level: first_id + n for n, node in enumerate(graph)}
    return [last[level] for level in levels]


def _there_and_back(way: Sequence[int], first_id: int) -> Graph:
    """Nodes along `way`, a permutation of the levels, and back again.

    On the way there a node reads its level's input and the node before, on the way back all
    features of its level so far and the node before.
    """
    ids = {level: [i] for i, level in enumerate(sorted(way))}
    nodes = []

    def add(level: int, inputs: list[int]) -> None:
        ids[level].append(first_id + len(nodes))
        nodes.append(Node(level, tuple(inputs)))

    for before, level in pairwise(way):
        add(level, [ids[level][-1], ids[before][-1]])
    for before, level in pairwise(reversed(way)):
        add(level, [*ids[level], ids[before][-1]])
    return tuple(nodes)
