import pytest
from hypothesis import given
from hypothesis import strategies as st

from bifpn_jax.errors import UserError
from bifpn_jax.models.fusion import NORMALIZERS
from bifpn_jax.models.graphs import (
    NODE_FUSIONS,
    OPERATIONS,
    Node,
    check_graph,
    format_graph,
    level_of,
    parse_graph,
)

TEXT = """
# A network of one's own.
6:3,4          # the way down
5:2,5:fast
4:1,6:attention:merge

3:0,7
"""
NODES = (
    Node(6, (3, 4)),
    Node(5, (2, 5), "fast"),
    Node(4, (1, 6), "attention", "merge"),
    Node(3, (0, 7)),
)


def test_a_graph_as_text():
    assert parse_graph(TEXT) == NODES
    assert format_graph(NODES) == "6:3,4 5:2,5:fast 4:1,6:attention:merge 3:0,7"


@given(
    st.lists(
        st.builds(
            Node,
            st.integers(0, 12),
            st.lists(st.integers(0, 40), min_size=1, max_size=5).map(tuple),
            st.sampled_from([None, *NODE_FUSIONS]),
            st.sampled_from(OPERATIONS),
        )
    ).map(tuple)
)
def test_text_round_trip(graph):
    assert parse_graph(format_graph(graph)) == graph


def test_nodes_may_have_every_fusion_that_there_is():
    assert set(NODE_FUSIONS) == {*NORMALIZERS, "attention"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("6:3,4 5", "'5' is not a node; write level:inputs, such as 5:2,6"),
        ("6:", "'6:' is not a node"),
        ("6:3,-1", "'6:3,-1' is not a node"),
        ("6:3,4:avg", "'avg' in '6:3,4:avg' is neither a fusion .* nor an operation"),
    ],
)
def test_text_that_is_no_graph(text, message):
    with pytest.raises(UserError, match=message):
        parse_graph(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it has no nodes"),
        ("4:1,2 3:0,9", r"node 4 \(3:0,9\) reads 9, which does not exist: 0-2 .*, 3-4 the nodes"),
        ("4:1,3 3:0,3", r"node 3 \(4:1,3\) reads 3, which comes from itself"),
        ("4:1,4 3:0,3", r"node 3 \(4:1,4\) reads 4, which comes later: .* no cycle"),
        ("6:1,2", r"node 3 \(6:1,2\) is at level 6, the model has levels 3-5"),
        ("4:1,1", r"node 3 \(4:1,1\) must read one feature or more, each of them once"),
        ("4:0,1,2:attention", "attention takes exactly two inputs"),
        ("4:1,2 4:0,1 3:0,4 5:2,4", r"node 3 \(4:1,2\) is read by no other, and 4 is the output"),
        (
            "4:1,2",
            "level 3 is never produced and its input 0 never read; add a node, such as 3:0,3",
        ),
        ("4:0,1 5:2,3:stride_conv", "halves its input, so it needs exactly one, of level 4"),
        ("5:0:stride_conv 4:1,2", "halves its input, so it needs exactly one, of level 4"),
    ],
)
def test_a_graph_that_cannot_work(text, message):
    with pytest.raises(UserError, match=f"^feature network: .*{message}"):
        check_graph(parse_graph(text), 3, 5)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Node(4, (0, 1), "mean"), "fusion 'mean' is none of sum, "),
        (Node(4, (0, 1), None, "pool"), "operation 'pool' is none of act_conv, "),
        (Node(4, ()), "must read one feature or more"),
    ],
)
def test_nodes_that_no_text_can_say(node, message):
    with pytest.raises(UserError, match=message):
        check_graph((node, Node(3, (0, 2))), 3, 4)


def test_level_of_inputs_and_nodes():
    assert [level_of(NODES, i, 3, 7) for i in range(9)] == [3, 4, 5, 6, 7, 6, 5, 4, 3]
