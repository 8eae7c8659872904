r"""Draws the paper's figures from finished runs, with the paper's points where it has numbers.

    python -m experiments.figures runs/fusion runs/scaling --output=docs/results

Folders are those of experiments.sweep, and workdirs of single runs. Figure 1 shows AP over
multiply-adds, Figure 5 the fusion weights of three nodes during training, Figure 6 scaling. Each is
written as PNG and SVG with a page that explains it, and combined with the tables in results.md.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags

from bifpn_jax.command_line import command
from experiments.paper.cost_figure import figure1
from experiments.paper.figure import Drawing
from experiments.paper.files import write_figure_page, write_results
from experiments.paper.finished_runs import Results, read_results
from experiments.paper.plotting import plain_style, save_figure
from experiments.paper.scaling_figure import figure6
from experiments.paper.weights_figure import figure5
from experiments.tables import choose

FIGURES = ("1", "5", "6")


def write_figures(
    results: Results,
    output: Path,
    numbers: Sequence[str] = FIGURES,
    nodes: Sequence[str] = (),
) -> list[str]:
    """Write figures, their pages and results.md; return the names of the files.

    Args:
        results: the runs.
        output: an existing folder.
        numbers: numbers of the paper's figures, from `FIGURES`.
        nodes: nodes shown in Figure 5; see `figure5`.
    """
    draw: dict[str, Callable[[], Drawing]] = {
        "1": lambda: figure1(results),
        "5": lambda: figure5(results, nodes),
        "6": lambda: figure6(results),
    }
    written = []
    for number in numbers:
        name = f"figure{number}"
        with plain_style():
            drawing = draw[number]()
            drawn = drawing.figure is not None
            if drawn:
                written += save_figure(drawing.figure, output, name)
        written.append(write_figure_page(output, name, drawing.title, drawing.caption, drawn))
    return [*written, write_results(output)]


def main(words: list[str]) -> None:
    """Run the command."""
    given = flags.FLAGS
    numbers = choose("figures", given.figures, FIGURES)
    results = read_results(words)
    written = write_figures(results, command.make_folder(given.output), numbers, given.nodes or ())
    print(f"{', '.join(written)} are in {given.output}")


if __name__ == "__main__":
    flags.DEFINE_string("output", "runs/results", "Folder for the figures.")
    flags.DEFINE_list("figures", list(FIGURES), "Which of the paper's figures to draw.")
    flags.DEFINE_list(
        "nodes", None, "Nodes of Figure 5, such as cell_0/node_3; by default three across the net."
    )
    command.run(main, arguments="RUN")
