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

from collections.abc import Callable
from typing import NamedTuple


class Node(NamedTuple):
    """One fusion: the features with ids `inputs`, resampled to `level`."""

    level: int
    inputs: tuple[int, ...]


Graph = tuple[Node, ...]


def bifpn(min_level: int, max_level: int) -> Graph:
    """Top-down, then bottom-up; bottom-up nodes also read the original input of their level.

    Args:
        min_level: the finest level, 3 in the paper.
        max_level: the coarsest level, 7 in the paper and 8 for D7x.
    """
    levels = range(min_level, max_level + 1)
    ids = {level: [i] for i, level in enumerate(levels)}
    nodes = []

    def add(level: int, inputs: list[int]) -> None:
        ids[level].append(len(levels) + len(nodes))
        nodes.append(Node(level, tuple(inputs)))

    for level in reversed(levels[:-1]):
        add(level, [ids[level][-1], ids[level + 1][-1]])
    for level in levels[1:]:
        add(level, [*ids[level], ids[level - 1][-1]])
    return tuple(nodes)


GRAPHS: dict[str, Callable[[int, int], Graph]] = {"bifpn": bifpn}


def output_ids(graph: Graph, min_level: int, max_level: int) -> list[int]:
    """Id of the output per level, finest first."""
    num_levels = max_level - min_level + 1
    last = {min_level + i: i for i in range(num_levels)}
    last |= {node.level: num_levels + n for n, node in enumerate(graph)}
    return [last[level] for level in range(min_level, max_level + 1)]
