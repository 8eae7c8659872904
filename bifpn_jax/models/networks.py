"""The feature networks of the paper (Figure 2, Table 5) and related ones, as graphs, without JAX.

Each is a function of the level range. BiFPN for levels 3-7, with the ids that the code uses:

    P7  4 ──────────────────┬───────> 12
    P6  3 ──┬──> 5 <────────┘ ──────> 11     5 reads 3, 4      11 reads 3, 5, 10
    P5  2 ──┬──> 6 <─ 5       ──────> 10     6 reads 2, 5      10 reads 2, 6, 9
    P4  1 ──┬──> 7 <─ 6       ──────>  9     7 reads 1, 6       9 reads 1, 7, 8
    P3  0 ─────> 8 <─ 7                      8 reads 0, 7      12 reads 4, 11

`bifpn draw NAME` draws any of them.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from bifpn_jax.errors import UserError
from bifpn_jax.models.graphs import Graph, Node, check_graph, output_ids, parse_graph
from bifpn_jax.named_parts import Parts, is_code, load_code


def fpn(min_level: int, max_level: int) -> Graph:
    """Top-down (arXiv 1612.03144, Figure 2a); the coarsest level passes through."""
    way = range(max_level, min_level - 1, -1)
    return _along(way, {level: [level - min_level] for level in way}, first_id=len(way))


def panet(min_level: int, max_level: int) -> Graph:
    """FPN, then bottom-up (arXiv 1803.01534, Figure 2b).

    A bottom-up node reads the top-down node of its level and the new one of the level below.
    """
    return _there_and_back(range(max_level, min_level - 1, -1), keep_inputs=False)


def simplified_panet(min_level: int, max_level: int) -> Graph:
    """PANet without the nodes that have a single input (the first step towards BiFPN).

    `effdet_pan` has two of those, at the ends of its top-down and bottom-up paths. `panet` has
    none, so its nodes are the same as these.
    """
    graph, count = effdet_pan(min_level, max_level), max_level - min_level + 1
    new_ids = {i: i for i in range(count)}
    nodes: list[Node] = []
    for n, node in enumerate(graph):
        inputs = tuple(new_ids[i] for i in node.inputs)
        if len(inputs) == 1:
            new_ids[count + n] = inputs[0]
        else:
            new_ids[count + n] = count + len(nodes)
            nodes.append(node._replace(inputs=inputs))
    return tuple(nodes)


def bifpn(min_level: int, max_level: int) -> Graph:
    """Top-down, then bottom-up; bottom-up nodes also read the original input of their level.

    Args:
        min_level: the finest level, 3 in the paper.
        max_level: the coarsest level, 7 in the paper and 8 for D7x.
    """
    return _there_and_back(range(max_level, min_level - 1, -1))


def nas_fpn(min_level: int, max_level: int) -> Graph:
    """The seven merging cells found by search (arXiv 1904.07392, Figure 2c), for five levels.

    Three of them weight the finer feature by attention; the others use the network's fusion, which
    is the sum in the original.
    """
    if max_level - min_level != 4:
        raise UserError(
            f"feature network nas_fpn is defined for five levels, such as 3-7, not {min_level}-"
            f"{max_level}; set min_level and max_level, or take another network."
        )
    cells = (
        (1, (1, 3), "attention"),
        (1, (1, 5), None),
        (0, (0, 6), None),
        (1, (6, 7), None),
        (2, (7, 8), "attention"),
        (4, (6, 9), "attention"),
        (3, (9, 10), "attention"),
    )
    return tuple(Node(min_level + step, inputs, fusion) for step, inputs, fusion in cells)


def fully_connected(min_level: int, max_level: int) -> Graph:
    """Every level reads every level (Table 5)."""
    inputs = tuple(range(max_level - min_level + 1))
    return tuple(Node(level, inputs) for level in range(min_level, max_level + 1))


def qufpn(min_level: int, max_level: int) -> Graph:
    """Quad-directional FPN (ieeexplore.ieee.org/document/9225379), in TensorFlow's code and effdet.

    BiFPN, the same upside down, and a node per level that fuses the two, always by fast normalized
    fusion, as in effdet.
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


def retinanet_fpn(min_level: int, max_level: int) -> Graph:
    """RetinaNet's FPN (arXiv 1708.02002), the baseline of Table 4; meant for one repeat.

    1x1 projections, summed top-down, then a 3x3 convolution per level; levels above 5 are made from
    the one below by convolutions of stride 2. Its convolutions are ordinary ones:
    `separable=False`.
    """
    count, top = max_level - min_level + 1, min(5, max_level)
    nodes, merged = [Node(top, (top - min_level,), "sum", "merge")], {top: count}
    for level in range(top - 1, min_level - 1, -1):
        nodes.append(Node(level, (level - min_level, merged[level + 1]), None, "merge"))
        merged[level] = count + len(nodes) - 1
    for level in range(min_level, top + 1):
        nodes.append(Node(level, (merged[level],), "sum", "conv"))
    for level in range(top + 1, max_level + 1):
        operation = "stride_conv" if level == top + 1 else "act_stride_conv"
        nodes.append(Node(level, (count + len(nodes) - 1,), "sum", operation))
    return tuple(nodes)


def effdet_pan(min_level: int, max_level: int) -> Graph:
    """PANet as in effdet: a node at every level, both top-down and bottom-up.

    The first node in either direction has a single input. Judging by Table 5's counts of parameters
    and operations, the paper's row "FPN + PANet" is this network.
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


# From the finest and the coarsest level to the graph.
NETWORKS: Mapping[str, Callable[[int, int], Graph]] = Parts(
    "feature_network",
    {
        "fpn": fpn,
        "panet": panet,
        "simplified_panet": simplified_panet,
        "bifpn": bifpn,
        "nas_fpn": nas_fpn,
        "fully_connected": fully_connected,
        "qufpn": qufpn,
        "retinanet_fpn": retinanet_fpn,
        "effdet_pan": effdet_pan,
    },
)


def network_graph(network: str | Graph | Callable, min_level: int, max_level: int) -> Graph:
    """Return the checked graph of a `feature_network=` setting; () if it is a module.

    Args:
        network: key of `NETWORKS`, a graph, a graph as text (see `graphs`), a function from the
            levels to a graph, or a linen module or its class; the latter two also as
            "FILE.py:NAME".
        min_level: the finest level of the pyramid.
        max_level: the coarsest level.

    Raises:
        UserError: no such network, or an invalid graph; the message has the node and the fix.
    """
    if is_code(network):
        network = load_code(network)
    if is_module(network):
        return ()
    if isinstance(network, str) and network not in NETWORKS and ":" in network:
        graph = parse_graph(network)
    elif isinstance(network, str):
        if network not in NETWORKS:
            raise _unknown(network)
        return NETWORKS[network](min_level, max_level)
    else:
        nodes = network(min_level, max_level) if callable(network) else network
        try:
            graph = tuple(Node(node[0], tuple(node[1]), *node[2:]) for node in nodes)
        except TypeError as error:
            raise UserError(
                f"feature_network={nodes!r:.100} is not a graph: give nodes (level, inputs), a "
                "name, or a linen module."
            ) from error
    check_graph(graph, min_level, max_level)
    return graph


def is_module(network: object) -> bool:
    """Whether a feature network is a linen module or module class rather than a graph."""
    return isinstance(network, type) or hasattr(network, "apply")


def _unknown(network: str) -> UserError:
    near = difflib.get_close_matches(network, NETWORKS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(NETWORKS)}"
    or_own = " or write the nodes, such as 6:3,4 5:2,5" if not near else ""
    return UserError(f"unknown feature_network {network!r}: {hint}{or_own}")


def _there_and_back(way: Sequence[int], first_id: int = 0, *, keep_inputs: bool = True) -> Graph:
    """Return nodes along `way`, a permutation of the levels, and back again.

    On the way there, a node reads its level's input and the previous node; on the way back, the
    latest feature of its level (all features of its level with `keep_inputs`) and the previous
    node.
    """
    first_id = first_id or len(way)
    ids = {level: [i] for i, level in enumerate(sorted(way))}
    there = _along(way, ids, first_id)
    if not keep_inputs:
        ids = {level: found[-1:] for level, found in ids.items()}
    return there + _along(way[::-1], ids, first_id + len(there), read_all=True)


def _along(
    way: Sequence[int], ids: dict[int, list[int]], first_id: int, *, read_all: bool = False
) -> Graph:
    """Return a node for each level of `way` but the first, reading its level and the previous node.

    Args:
        way: levels in the order of the nodes.
        ids: level -> ids of its features so far; new ids are appended.
        first_id: id of the first new node.
        read_all: read all features of the level instead of the latest.
    """
    nodes: list[Node] = []
    for before, level in pairwise(way):
        own = ids[level] if read_all else ids[level][-1:]
        nodes.append(Node(level, (*own, ids[before][-1])))
        ids[level].append(first_id + len(nodes) - 1)
    return tuple(nodes)
