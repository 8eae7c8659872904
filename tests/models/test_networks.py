import pytest

from bifpn_jax.errors import UserError
from bifpn_jax.models.graphs import Node, check_graph, output_ids
from bifpn_jax.models.networks import NETWORKS, bifpn, effdet_pan, network_graph, qufpn

# (min level, max level) -> nodes as (level, ids of the inputs), from the released code.
RELEASED = {
    (3, 7): [
        (6, (3, 4)),
        (5, (2, 5)),
        (4, (1, 6)),
        (3, (0, 7)),
        (4, (1, 7, 8)),
        (5, (2, 6, 9)),
        (6, (3, 5, 10)),
        (7, (4, 11)),
    ],
    (3, 8): [
        (7, (4, 5)),
        (6, (3, 6)),
        (5, (2, 7)),
        (4, (1, 8)),
        (3, (0, 9)),
        (4, (1, 9, 10)),
        (5, (2, 8, 11)),
        (6, (3, 7, 12)),
        (7, (4, 6, 13)),
        (8, (5, 14)),
    ],
    (2, 7): [
        (6, (4, 5)),
        (5, (3, 6)),
        (4, (2, 7)),
        (3, (1, 8)),
        (2, (0, 9)),
        (3, (1, 9, 10)),
        (4, (2, 8, 11)),
        (5, (3, 7, 12)),
        (6, (4, 6, 13)),
        (7, (5, 14)),
    ],
}


# Levels 3-7, as the papers draw them.
OTHERS = {
    "fpn": [(6, (3, 4)), (5, (2, 5)), (4, (1, 6)), (3, (0, 7))],
    "panet": [
        (6, (3, 4)),
        (5, (2, 5)),
        (4, (1, 6)),
        (3, (0, 7)),
        (4, (7, 8)),
        (5, (6, 9)),
        (6, (5, 10)),
        (7, (4, 11)),
    ],
    "nas_fpn": [
        (4, (1, 3), "attention"),
        (4, (1, 5)),
        (3, (0, 6)),
        (4, (6, 7)),
        (5, (7, 8), "attention"),
        (7, (6, 9), "attention"),
        (6, (9, 10), "attention"),
    ],
    "fully_connected": [(level, (0, 1, 2, 3, 4)) for level in (3, 4, 5, 6, 7)],
    "retinanet_fpn": [
        (5, (2,), "sum", "merge"),
        (4, (1, 5), None, "merge"),
        (3, (0, 6), None, "merge"),
        (3, (7,), "sum", "conv"),
        (4, (6,), "sum", "conv"),
        (5, (5,), "sum", "conv"),
        (6, (10,), "sum", "stride_conv"),
        (7, (11,), "sum", "act_stride_conv"),
    ],
}
OTHERS["simplified_panet"] = OTHERS["panet"]


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_networks_are_the_papers(name):
    assert NETWORKS[name](3, 7) == tuple(Node(*node) for node in OTHERS[name])


@pytest.mark.parametrize("levels", RELEASED)
def test_bifpn_is_the_released_graph(levels):
    assert bifpn(*levels) == tuple(Node(*node) for node in RELEASED[levels])


def test_pan_is_effdets():
    nodes = [
        (7, (4,)),
        (6, (3, 5)),
        (5, (2, 6)),
        (4, (1, 7)),
        (3, (0, 8)),
        (3, (9,)),
        (4, (8, 10)),
        (5, (7, 11)),
        (6, (6, 12)),
        (7, (5, 13)),
    ]
    assert effdet_pan(3, 7) == tuple(Node(*node) for node in nodes)
    assert output_ids(effdet_pan(3, 7), 3, 7) == [10, 11, 12, 13, 14]


def test_qufpn_is_effdets():
    up_down = [
        (4, (1, 0)),
        (5, (2, 13)),
        (6, (3, 14)),
        (7, (4, 15)),
        (6, (3, 15, 16)),
        (5, (2, 14, 17)),
        (4, (1, 13, 18)),
        (3, (0, 19)),
    ]
    joined = [(3, (8, 20)), (4, (9, 19)), (5, (10, 18)), (6, (11, 17)), (7, (12, 16))]
    nodes = [Node(*node) for node in RELEASED[3, 7] + up_down]
    nodes += [Node(*node, fusion="fast") for node in joined]
    assert qufpn(3, 7) == tuple(nodes)
    assert output_ids(qufpn(3, 7), 3, 7) == [21, 22, 23, 24, 25]


@pytest.mark.parametrize(
    ("levels", "ids"),
    [((3, 7), [8, 9, 10, 11, 12]), ((3, 8), [10, 11, 12, 13, 14, 15])],
)
def test_bifpn_puts_out_the_last_node_of_every_level(levels, ids):
    assert output_ids(bifpn(*levels), *levels) == ids


def test_a_level_without_nodes_passes_through():
    top_down = (Node(6, (3, 4)), Node(5, (2, 5)), Node(4, (1, 6)), Node(3, (0, 7)))
    assert output_ids(top_down, 3, 7) == [8, 7, 6, 5, 4]


def test_of_several_nodes_of_a_level_the_last_one_counts():
    graph = (Node(4, (0, 1)), Node(4, (1, 2)), Node(3, (0, 2)))
    assert output_ids(graph, 3, 4) == [4, 3]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("levels", [(3, 7), (3, 8), (4, 7), (3, 5), (5, 6)])
def test_every_graph_reads_only_what_exists_and_loses_nothing(name, levels):
    if name == "nas_fpn" and levels != (3, 7):
        with pytest.raises(UserError, match=f"five levels, such as 3-7, not {levels[0]}-"):
            NETWORKS[name](*levels)
        return
    graph, num_levels = NETWORKS[name](*levels), levels[1] - levels[0] + 1
    check_graph(graph, *levels)
    for n, node in enumerate(graph):
        assert levels[0] <= node.level <= levels[1]
        assert len(set(node.inputs)) == len(node.inputs) >= 1
        assert all(0 <= i < num_levels + n for i in node.inputs)
    outputs = output_ids(graph, *levels)
    assert len(outputs) == num_levels
    read = {i for node in graph for i in node.inputs} | set(outputs)
    assert set(range(num_levels, num_levels + len(graph))) <= read


def test_a_network_is_named_or_written_down():
    nodes = [(6, [3, 4]), (5, [2, 5]), (4, [1, 6]), (3, [0, 7])]
    for network in ("fpn", "6:3,4 5:2,5 4:1,6 3:0,7", nodes):
        assert network_graph(network, 3, 7) == NETWORKS["fpn"](3, 7)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("bi_fpn", "unknown feature_network 'bi_fpn': did you mean 'bifpn'?"),
        ("xyz", "unknown feature_network 'xyz': choose from fpn, .* or write the nodes, such as"),
        ("6:3,4 5:2,9", r"node 6 \(5:2,9\) reads 9, which does not exist: 0-4 are the inputs"),
        ("6:3,6 5:2,5", r"node 5 \(6:3,6\) reads 6, which comes later: .* no cycle"),
    ],
)
def test_a_wrong_network_is_one_line(network, message):
    with pytest.raises(UserError, match=message):
        network_graph(network, 3, 7)
