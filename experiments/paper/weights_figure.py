"""Figure 5: normalised fusion weights during training, softmax and fast."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bifpn_jax.errors import UserError
from bifpn_jax.inspection.colors import COLORS
from bifpn_jax.inspection.node_names import edge_names, feature_names
from bifpn_jax.models.graphs import Graph
from bifpn_jax.models.networks import network_graph
from bifpn_jax.runs.logs import FUSION_WEIGHTS_FILE
from experiments.paper import counts
from experiments.paper.figure import Drawing
from experiments.paper.finished_runs import Results, Run, read_lines
from experiments.paper.plotting import new_figure
from experiments.paper.table import NOT_RUN

TITLE = "Figure 5: fusion weights during training"
_LINES = {"softmax": "-", "fast": "--"}
_MARKERS = {"softmax": "o", "fast": "x"}
_NUM_NODES = 3


class History(NamedTuple):
    """Weights of one run.

    Attributes:
        steps: [S], ascending.
        nodes: "cell_0/node_3" -> normalised weights [S, E] of its E inputs.
    """

    steps: np.ndarray
    nodes: dict[str, np.ndarray]


def figure5(results: Results, nodes: Sequence[str] = ()) -> Drawing:
    """Draw three nodes, a panel each; lines are means over seeds, bands span minimum to maximum.

    Args:
        results: the study "fusion", or single runs with either fusion.
        nodes: which nodes to show; by default the first, the middle one and the last of those with
            several inputs.

    Raises:
        UserError: there is no such node, or a file cannot be read.
    """
    found = _runs_by_fusion(results)
    if not found:
        return Drawing(
            TITLE,
            None,
            f"{NOT_RUN.capitalize()}: no finished run with softmax or fast fusion that logged its "
            "weights is among the folders; `python -m experiments.sweep "
            "--config=configs/ablations/fusion.py --rows=softmax,fast --workdir=DIR` makes them.",
        )
    every = [run for runs in found.values() for run in runs]
    models = sorted({run.config["model"]["name"] for run in every})
    networks = {run.folder: _network(run) for run in every}
    if len(models) > 1 or len(set(networks.values())) > 1:
        return Drawing(
            TITLE,
            None,
            f"Not drawn: the runs are of several models ({', '.join(models)}) or feature networks, "
            "whose nodes are not the same; give the folders of one.",
        )
    network = next(iter(networks.values()))
    histories = {
        fusion: [read_history(run.folder) for run in runs] for fusion, runs in found.items()
    }
    for run, history in zip(every, [h for runs in histories.values() for h in runs], strict=True):
        _check_nodes(history, network, run.folder)
    chosen = _choose(_common_nodes(histories), nodes)
    figure, axes = new_figure(len(chosen), width=3.6, height=3.9)
    for panel, node in zip(axes, chosen, strict=True):
        edges = network.edges(node)
        for fusion, of_seeds in histories.items():
            _draw(panel, fusion, node, edges, of_seeds)
        panel.set_title(network.title(node))
        panel.set_xlabel("training step")
        _set_step_ticks(panel)
        if panel is not axes[0]:
            panel.tick_params(labelleft=False)
        first = panel.lines[: len(edges)]
        panel.legend(
            first, edges, loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=9, handlelength=1
        )
    limits = [panel.get_ylim() for panel in axes]
    for panel in axes:
        panel.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    axes[0].set_ylabel("normalised weight")
    styles = {
        fusion: axes[0].lines[i * len(network.edges(chosen[0]))]
        for i, fusion in enumerate(histories)
    }
    figure.legend(
        [_style_line(line) for line in styles.values()],
        list(styles),
        loc="outside lower center",
        ncols=len(styles),
    )
    seeds = "; ".join(f"{fusion}: {len(runs)}" for fusion, runs in histories.items())
    absent = [fusion for fusion in _LINES if fusion not in histories]
    named = ", ".join(f"{network.title(node)} is `{node}`" for node in chosen)
    caption = (
        "Normalised weight of each input of a node against the training step, softmax solid, fast "
        f"normalised dashed. Lines are means over seeds ({seeds}), bands reach from the least to "
        "the most. Features are named as in the paper: P6 in is the input of level 6, td a node "
        "on the way down (top-down), bu one on the way up (bottom-up), mid one of neither, out the "
        f"output. The input of a later cell is the output of the one before. {named}. "
        "The paper's figure shows three nodes of one COCO model, for which the two fusions nearly "
        "coincide."
    )
    caption += "".join(f" {fusion}: {NOT_RUN}." for fusion in absent)
    return Drawing(TITLE, figure, caption)


class Network(NamedTuple):
    """A feature network with names for its nodes.

    Attributes:
        graph: the graph of every cell.
        min_level: the finest level.
        max_level: the coarsest level.
    """

    graph: Graph
    min_level: int
    max_level: int

    def title(self, node: str) -> str:
        """Return the name of a node: "cell 0, P3 out" for "cell_0/node_3" in the logs."""
        cell, n = _numbers(node)
        names = feature_names(*self)
        return f"cell {cell}, {names[len(names) - len(self.graph) + n]}"

    def edges(self, node: str) -> list[str]:
        """Return the names of the inputs of a node."""
        return edge_names(*self)[_numbers(node)[1]]


def _network(run: Run) -> Network:
    model = counts.model_of(run.config, run.num_classes)
    levels = model.min_level, model.max_level
    return Network(network_graph(model.feature_network, *levels), *levels)


def _check_nodes(history: History, network: Network, folder: Path) -> None:
    """Raise a UserError if logged weights do not match the nodes of a network."""
    for node, weights in history.nodes.items():
        numbers = _numbers(node)
        n = numbers[1] if len(numbers) == 2 else len(network.graph)
        inputs = len(network.graph[n].inputs) if n < len(network.graph) else 0
        if weights.shape[1] != inputs:
            raise UserError(
                f"{folder / FUSION_WEIGHTS_FILE}: {node} has {weights.shape[1]} weights, but "
                f"{inputs} inputs in the run's feature network; restore the file."
            )


def _numbers(node: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", node)]


def _set_step_ticks(panel: Any) -> None:
    """Set ticks at whole steps, few enough that their labels do not touch."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    low, high = panel.get_xlim()
    if high - low < 4:
        panel.set_xlim((low + high) / 2 - 2, (low + high) / 2 + 2)
    panel.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=(1, 2, 5, 10)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))


def _style_line(line: Any) -> Any:
    """Return a black line of the same style, for the legend of the fusions."""
    from matplotlib.lines import Line2D

    style = {"linestyle": line.get_linestyle(), "marker": line.get_marker(), "markersize": 4}
    return Line2D([], [], color="black", **style)


def read_history(folder: Path) -> History:
    """Read a run's fusion_weights.jsonl; raise a UserError if its lines are inconsistent."""
    path = folder / FUSION_WEIGHTS_FILE
    lines = read_lines(path)
    try:
        names = lines[0]["weights"]
        nodes = {name: np.array([line["weights"][name] for line in lines]) for name in names}
        if any(weights.ndim != 2 for weights in nodes.values()):
            raise ValueError("not a list of weights per node")
        return History(np.array([line["step"] for line in lines]), nodes)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} does not hold the same nodes in every line ({error!r}); restore the file."
        ) from error


def _runs_by_fusion(results: Results) -> dict[str, list[Run]]:
    study = results.studies.get("fusion")
    if study is not None:
        runs = {fusion: list(study.runs.get(fusion, {}).values()) for fusion in _LINES}
    else:
        single = [run for of_model in results.models.values() for run in of_model]
        runs = {
            fusion: [run for run in single if run.config["model"]["fusion"] == fusion]
            for fusion in _LINES
        }
    logged = {
        f: [r for r in rs if (r.folder / FUSION_WEIGHTS_FILE).is_file()] for f, rs in runs.items()
    }
    return {fusion: found for fusion, found in logged.items() if found}


def _common_nodes(histories: Mapping[str, Sequence[History]]) -> list[str]:
    """Return nodes with several inputs that all runs have, in the order of the network."""
    every = [history.nodes for of_seeds in histories.values() for history in of_seeds]
    several = [
        node
        for node, weights in every[0].items()
        if weights.shape[1] > 1 and all(node in nodes for nodes in every)
    ]
    if not several:
        raise UserError("the runs have no node with several inputs in common; give one at a time.")
    return sorted(several, key=_numbers)


def _choose(there: Sequence[str], wanted: Sequence[str]) -> list[str]:
    for node in wanted:
        if node not in there:
            near = difflib.get_close_matches(node, there, 1, 0.0)[0]
            raise UserError(f"--nodes={node}: there is no such node; did you mean {near}?")
    if wanted:
        return list(wanted)
    places = np.linspace(0, len(there) - 1, min(_NUM_NODES, len(there))).round().astype(int)
    return [there[place] for place in places]


def _draw(
    panel: Any, fusion: str, node: str, edges: Sequence[str], of_seeds: Sequence[History]
) -> None:
    steps = sorted(set.intersection(*(set(history.steps.tolist()) for history in of_seeds)))
    weights = np.stack(
        [history.nodes[node][np.isin(history.steps, steps)] for history in of_seeds]
    )  # [seeds, S, E]
    # A single step does not make a line.
    marker = _MARKERS[fusion] if len(steps) == 1 else None
    for i, edge in enumerate(edges):
        color = COLORS[i % len(COLORS)]
        mean, low, high = (f(weights[:, :, i], axis=0) for f in (np.mean, np.min, np.max))
        panel.plot(
            steps, mean, _LINES[fusion], color=color, marker=marker, label=f"{edge}, {fusion}"
        )
        panel.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
