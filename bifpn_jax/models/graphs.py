"""A feature network as data: which features each node fuses. Does not use JAX.

A graph is a tuple of nodes. Ids 0 .. L-1 are the inputs, finest level first; node n of the tuple
has id L + n. The output of a graph at a level is its last node of that level, or the input if it
has none. `networks` has the graphs of the paper.

As text, a node is `level:inputs`, optionally followed by a colon and a fusion or an operation for
this node: "6:3,4 5:2,5 4:1,6 3:0,7" is a top-down FPN over levels 3-7, "4:1,3:attention" a node of
NAS-FPN. A file may have line breaks, and comments after #.
"""

import re
from typing import NamedTuple

from bifpn_jax.errors import UserError

# What a node does with the sum of its inputs:
#   act_conv      activation, 3x3 convolution, batch norm: every node of the paper's networks
#   conv          the same without the activation
#   merge         nothing; the sum itself is the feature
#   stride_conv, act_stride_conv    as above with stride 2, on one input of the level below
OPERATIONS = ("act_conv", "conv", "merge", "stride_conv", "act_stride_conv")
# Fusions of single nodes: those of a whole network are fusion.NORMALIZERS; attention is NAS-FPN's.
NODE_FUSIONS = (
    "sum",
    "unbounded",
    "softmax",
    "fast",
    "channel_softmax",
    "channel_fast",
    "attention",
)


class Node(NamedTuple):
    """One fusion: the features with ids `inputs`, resampled to `level`.

    `fusion`, one of `NODE_FUSIONS`, is set if it differs from the network's; `operation` is one of
    `OPERATIONS`.
    """

    level: int
    inputs: tuple[int, ...]
    fusion: str | None = None
    operation: str = "act_conv"


Graph = tuple[Node, ...]


def output_ids(
    graph: Graph, min_level: int, max_level: int, first_id: int | None = None
) -> list[int]:
    """Return the output id per level, finest first; `first_id` is the id of the first node."""
    levels = range(min_level, max_level + 1)
    first_id = len(levels) if first_id is None else first_id
    last = {level: i for i, level in enumerate(levels)}
    last |= {node.level: first_id + n for n, node in enumerate(graph)}
    return [last[level] for level in levels]


def level_of(graph: Graph, feature: int, min_level: int, max_level: int) -> int:
    """Return the level of the input or node with the id `feature`."""
    count = max_level - min_level + 1
    return min_level + feature if feature < count else graph[feature - count].level


def parse_graph(text: str) -> Graph:
    """Parse the text form described in this module's docstring.

    Raises:
        UserError: a word is not a node; `check_graph` checks the nodes themselves.
    """
    nodes = []
    for word in re.sub(r"#.*", "", text).split():
        match = re.fullmatch(r"(\d+):(\d+(?:,\d+)*)((?::\w+)*)", word)
        if match is None:
            raise UserError(
                f"feature network: {word!r} is not a node; write level:inputs, such as 5:2,6 for "
                "the features 2 and 6 fused at level 5."
            )
        node = Node(int(match[1]), tuple(map(int, match[2].split(","))))
        for name in match[3].split(":")[1:]:
            if name in NODE_FUSIONS:
                node = node._replace(fusion=name)
            elif name in OPERATIONS:
                node = node._replace(operation=name)
            else:
                raise UserError(
                    f"feature network: {name!r} in {word!r} is neither a fusion "
                    f"({', '.join(NODE_FUSIONS)}) nor an operation ({', '.join(OPERATIONS)})."
                )
        nodes.append(node)
    return tuple(nodes)


def format_graph(graph: Graph) -> str:
    """Return the text form of a graph in one line; `parse_graph` reads it."""
    return " ".join(_format_node(node) for node in graph)


def _format_node(node: Node) -> str:
    words = [str(node.level), ",".join(map(str, node.inputs))]
    words += [node.fusion] if node.fusion else []
    words += [node.operation] if node.operation != "act_conv" else []
    return ":".join(words)


def check_graph(graph: Graph, min_level: int, max_level: int) -> None:
    """Raise a UserError for the first fault or obvious mistake in a graph.

    Every input must exist before the node that reads it (so there is no cycle), every level must be
    produced or at least be read, and every node must be read or be the output of its level.
    """
    count = max_level - min_level + 1
    if not graph:
        raise UserError("feature network: it has no nodes; write some, such as 6:3,4 5:2,5.")
    for n, node in enumerate(graph):
        _check_node(f"feature network: node {count + n} ({_format_node(node)})", n, graph, count)
        if not min_level <= node.level <= max_level:
            raise UserError(
                f"feature network: node {count + n} ({_format_node(node)}) is at level "
                f"{node.level}, the model has levels {min_level}-{max_level}."
            )
        if "stride" in node.operation:
            below = level_of(graph, node.inputs[0], min_level, max_level)
            if len(node.inputs) != 1 or below != node.level - 1:
                raise UserError(
                    f"feature network: node {count + n} ({_format_node(node)}) halves its input, "
                    f"so it needs exactly one, of level {node.level - 1}."
                )
    outputs = output_ids(graph, min_level, max_level)
    read = {i for node in graph for i in node.inputs}
    for level, output in zip(range(min_level, max_level + 1), outputs, strict=True):
        if output < count and output not in read:
            raise UserError(
                f"feature network: level {level} is never produced and its input {output} never "
                f"read; add a node, such as {level}:{output},{count}."
            )
    for n, node in enumerate(graph):
        if count + n not in read and count + n not in outputs:
            raise UserError(
                f"feature network: node {count + n} ({_format_node(node)}) is read by no other, "
                f"and {outputs[node.level - min_level]} is the output of level {node.level}; read "
                "it or leave it out."
            )


def _check_node(name: str, n: int, graph: Graph, count: int) -> None:
    node = graph[n]
    for i in node.inputs:
        if i >= count + len(graph):
            raise UserError(
                f"{name} reads {i}, which does not exist: 0-{count - 1} are the inputs, "
                f"{count}-{count + len(graph) - 1} the nodes."
            )
        if i >= count + n:
            raise UserError(
                f"{name} reads {i}, which comes {'later' if i > count + n else 'from itself'}: "
                "nodes are computed in order, there can be no cycle."
            )
    if not node.inputs or len(set(node.inputs)) != len(node.inputs):
        raise UserError(f"{name} must read one feature or more, each of them once.")
    if node.fusion is not None and node.fusion not in NODE_FUSIONS:
        raise UserError(f"{name}: fusion {node.fusion!r} is none of {', '.join(NODE_FUSIONS)}.")
    if node.fusion == "attention" and len(node.inputs) != 2:
        raise UserError(f"{name}: attention takes exactly two inputs.")
    if node.operation not in OPERATIONS:
        raise UserError(f"{name}: operation {node.operation!r} is none of {', '.join(OPERATIONS)}.")
