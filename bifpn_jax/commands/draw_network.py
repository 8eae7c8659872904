"""Draws feature networks in the style of the paper's Figure 2, as SVG and PNG.

    bifpn draw panet bifpn --output=pictures
    bifpn draw "6:3,4 5:2,5 4:1,6 3:0,7"
    bifpn draw my_network.txt --min_level=3 --max_level=8

Numbers are the ids by which the nodes of a graph refer to their inputs (bifpn_jax.models.graphs).
"""

from pathlib import Path

from absl import flags

from bifpn_jax.command_line import command
from bifpn_jax.command_line.network_file import read_network
from bifpn_jax.errors import UserError
from bifpn_jax.inspection.network_drawing import draw_network
from bifpn_jax.models.networks import NETWORKS, network_graph

ARGUMENTS = "NETWORK"


def define_flags() -> None:
    """Define the flags of this command."""
    flags.DEFINE_string("output", ".", "Folder for the pictures.")
    flags.DEFINE_integer("min_level", 3, "The finest level.")
    flags.DEFINE_integer("max_level", 7, "The coarsest level.")


def main(words: list[str]) -> None:
    """Run the command."""
    options = flags.FLAGS
    if not words:
        raise UserError(f"name a feature network to draw: {', '.join(NETWORKS)}, or its nodes.")
    if not 0 < options.min_level < options.max_level <= 10:
        raise UserError(
            f"--min_level={options.min_level} --max_level={options.max_level}: give two levels "
            "from 1 to 10, the finer one first."
        )
    levels = options.min_level, options.max_level
    graphs = [network_graph(read_network(word), *levels) for word in words]
    output = command.make_folder(options.output)
    for word, graph in zip(words, graphs, strict=True):
        stem = "network" if ":" in word else Path(word).stem
        paths = [output / f"{stem}.svg", output / f"{stem}.png"]
        title = "" if stem == "network" else stem.replace("_", " ")
        draw_network(graph, *levels, title=title, paths=paths)
        print(f"{word}: {len(graph)} nodes, drawn to {paths[0]} and {paths[1]}")
