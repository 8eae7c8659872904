"""Feature networks in files and in pictures."""

import subprocess
import sys
from pathlib import Path

import pytest

from bifpn_jax.command_line.network_file import inline_network_file, read_network
from bifpn_jax.errors import UserError
from bifpn_jax.inspection.network_drawing import Place, draw_network, is_bent, layout
from bifpn_jax.models.graphs import parse_graph
from bifpn_jax.models.networks import NETWORKS
from bifpn_jax.recipe import base

ROOT = Path(__file__).resolve().parents[2]


def test_bifpn_stands_as_in_the_papers_figure():
    """Inputs left, the way down in the middle, the way up on the right with the ends of both."""
    places = layout(NETWORKS["bifpn"](3, 7), 3, 7)
    assert places[:5] == [Place(0, row) for row in range(5)]
    assert places[5:] == [
        *(Place(1, row) for row in (3, 2, 1, 0)),
        *(Place(2, row) for row in (1, 2, 3, 4)),
    ]


@pytest.mark.parametrize("name", NETWORKS)
def test_no_two_features_in_one_place(name):
    places = layout(NETWORKS[name](3, 7), 3, 7)
    assert len(set(places)) == len(places)


@pytest.mark.parametrize(
    ("start", "end", "bent"),
    [
        ((0, 1), (2, 1), True),
        ((0, 1), (1, 1), False),
        ((0, 0), (2, 2), True),
        ((0, 0), (2, 1), False),
    ],
)
def test_an_edge_is_bent_where_it_would_cross_a_feature(start, end, bent):
    places = [Place(x, y) for x in range(3) for y in range(3)]
    assert is_bent(Place(*start), Place(*end), places) == bent


def test_pictures_are_the_same_every_time(tmp_path):
    for name in ("a", "b"):
        paths = [tmp_path / f"{name}.svg", tmp_path / f"{name}.png"]
        draw_network(NETWORKS["nas_fpn"](3, 7), 3, 7, title="nas fpn", paths=paths)
    for suffix in ("svg", "png"):
        first, second = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("a", "b"))
        assert first == second
        assert len(first) > 2000


def test_the_command(tmp_path):
    own = tmp_path / "mine.txt"
    own.write_text("6:3,4 5:2,5 # down\n4:1,6 3:0,7\n")
    words = ["panet", str(own), f"--output={tmp_path / 'out'}"]
    run = [sys.executable, "-m", "bifpn_jax", "draw"]
    result = subprocess.run([*run, *words], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert "panet: 8 nodes, drawn to" in result.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "mine.png",
        "mine.svg",
        "panet.png",
        "panet.svg",
    ]


def test_a_file_is_put_into_the_config(tmp_path):
    own = tmp_path / "mine.txt"
    own.write_text("# mine\n6:3,4  5:2,5\n4:1,6:fast 3:0,7\n")
    config = base.get_config("d0")
    config.model.feature_network = str(own)
    inline_network_file(config)
    assert config.model.feature_network == "6:3,4 5:2,5 4:1,6:fast 3:0,7"
    inline_network_file(config)
    assert parse_graph(config.model.feature_network)[2].fusion == "fast"


@pytest.mark.parametrize("value", ["bifpn", "6:3,4 5:2,5", "typo"])
def test_what_names_no_file_stays(value):
    assert read_network(value) == value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot read this file \(No such file or directory\); name one with nodes"),
        (b"\xff\xfe", r"cannot read this file \(it is not text\)"),
        (b"6:3,4 five", r"mine.txt: feature network: 'five' is not a node"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, content, message):
    own = tmp_path / "mine.txt"
    if content is not None:
        own.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_network(str(own))
