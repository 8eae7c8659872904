"""Names of nodes and edges against the paper's section 3.3, for its networks and for others."""

import pytest

from bifpn_jax.inspection.node_names import edge_names, feature_names
from bifpn_jax.models.networks import NETWORKS, network_graph

INPUTS = ["P3 in", "P4 in", "P5 in", "P6 in", "P7 in"]


def nodes(network, low=3, high=7):
    return feature_names(network_graph(network, low, high), low, high)[high - low + 1 :]


def test_bifpn_is_named_as_in_the_paper():
    graph = network_graph("bifpn", 3, 7)
    assert feature_names(graph, 3, 7)[:5] == INPUTS
    assert nodes("bifpn") == [
        *("P6 td", "P5 td", "P4 td", "P3 out"),
        *("P4 out", "P5 out", "P6 out", "P7 out"),
    ]
    edges = edge_names(graph, 3, 7)
    # P6 td = w1 P6 in + w2 resize(P7 in); P6 out = w1 P6 in + w2 P6 td + w3 resize(P5 out).
    assert edges[0] == ["P6 in", "P7 in (top-down)"]
    assert edges[1] == ["P5 in", "P6 td (top-down)"]
    assert edges[6] == ["P6 in", "P6 td", "P5 out (bottom-up)"]
    assert edges[7] == ["P7 in", "P6 out (bottom-up)"]


@pytest.mark.parametrize(
    ("network", "names"),
    [
        ("fpn", ["P6 out", "P5 out", "P4 out", "P3 out"]),
        (
            "panet",
            ["P6 td", "P5 td", "P4 td", "P3 out", "P4 out", "P5 out", "P6 out", "P7 out"],
        ),
        (
            "nas_fpn",
            ["P4 td", "P4 mid", "P3 out", "P4 out", "P5 out", "P7 out", "P6 out"],
        ),
        ("fully_connected", ["P3 out", "P4 out", "P5 out", "P6 out", "P7 out"]),
        (
            "qufpn",
            [
                *("P6 td1", "P5 td1", "P4 td1", "P3 td1", "P4 bu1", "P5 bu1", "P6 bu1", "P7 bu1"),
                *("P4 bu2", "P5 bu2", "P6 bu2", "P7 bu2", "P6 td2", "P5 td2", "P4 td2", "P3 td2"),
                *("P3 out", "P4 out", "P5 out", "P6 out", "P7 out"),
            ],
        ),
        (  # of one's own: the first reads both ways, the second its own level only
            "4:1,0,3 4:1,5 5:2,6 4:6,7 3:0,8 6:3,4 7:4,10",
            ["P4 mid1", "P4 mid2", "P5 out", "P4 out", "P3 out", "P6 out", "P7 out"],
        ),
    ],
)
def test_other_networks(network, names):
    assert nodes(network) == names


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("levels", [(3, 7), (2, 6)])
def test_every_feature_has_a_name_of_its_own(network, levels):
    graph = network_graph(network, *levels)
    names = feature_names(graph, *levels)
    assert len(names) == 5 + len(graph)
    assert len(set(names)) == len(names)
    for n, node in enumerate(graph):
        assert names[5 + n].startswith(f"P{node.level} ")
        edges = edge_names(graph, *levels)[n]
        assert [edge.split(" (")[0] for edge in edges] == [names[i] for i in node.inputs]
    outputs = [name for name in names if name.endswith("out")]
    assert len(outputs) == len({node.level for node in graph})
