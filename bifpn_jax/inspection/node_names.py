"""Names the features of a feature network as in the paper (section 3.3), from its graph.

The paper calls the input of level 6 P6 in, the top-down node P6 td and the output P6 out. The rule
for any graph: the last node of a level is its `out`. Of the others, a node that reads a coarser
level and no finer one is `td`; one that reads a finer level and no coarser one is `bu` (bottom-up);
any other is `mid`. If a level has several of a kind, they are numbered: P4 td1, P4 td2.
"""

from collections import Counter

from bifpn_jax.models.graphs import Graph, Node, level_of, output_ids


def feature_names(graph: Graph, min_level: int, max_level: int) -> list[str]:
    """Return the names of all inputs and nodes in id order: "P6 in", "P6 td", "P6 out"."""
    outputs = set(output_ids(graph, min_level, max_level))
    names = [f"P{level} in" for level in range(min_level, max_level + 1)]
    count = len(names)
    for n, node in enumerate(graph):
        kind = "out" if count + n in outputs else _kind(node, graph, min_level, max_level)
        names.append(f"P{node.level} {kind}")
    total, so_far = Counter(names), Counter()
    for i, name in enumerate(names):
        so_far[name] += 1
        if total[name] > 1:
            names[i] = f"{name}{so_far[name]}"
    return names


def edge_names(graph: Graph, min_level: int, max_level: int) -> list[list[str]]:
    """Return the names of the inputs of every node, in order: "P6 in", "P7 in (top-down)"."""
    names = feature_names(graph, min_level, max_level)
    edges = []
    for node in graph:
        levels = [level_of(graph, i, min_level, max_level) for i in node.inputs]
        ways = [_way(level, node.level) for level in levels]
        edges.append([names[i] + way for i, way in zip(node.inputs, ways, strict=True)])
    return edges


def _kind(node: Node, graph: Graph, min_level: int, max_level: int) -> str:
    levels = [level_of(graph, i, min_level, max_level) for i in node.inputs]
    from_above = any(level > node.level for level in levels)
    from_below = any(level < node.level for level in levels)
    if from_above == from_below:
        return "mid"
    return "td" if from_above else "bu"


def _way(level: int, into: int) -> str:
    if level == into:
        return ""
    return " (top-down)" if level > into else " (bottom-up)"
