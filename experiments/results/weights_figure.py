"""Figure 5: normalised fusion weights during training, softmax beside fast."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bifpn_jax.errors import UserError
from bifpn_jax.train.logs import FUSION_WEIGHTS_FILE
from experiments.results.figure import Drawing
from experiments.results.plotting import COLORS, new_figure
from experiments.results.runs import Results, Run, read_lines
from experiments.results.table import NOT_RUN

TITLE = "Figure 5: fusion weights during training"
_LINES = {"softmax": "-", "fast": "--"}
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
    """Three nodes, a panel each; lines are means over the seeds, bands reach from least to most.

    Args:
        results: the study "fusion", or single runs with either fusion.
        nodes: which nodes to show; by default the first, the middle one and the last of those with
            several inputs.

    Raises:
        UserError: no such node, or a file that cannot be read.
    """
    histories = {
        fusion: [read_history(run.folder) for run in runs]
        for fusion, runs in _runs_by_fusion(results).items()
    }
    if not histories:
        return Drawing(
            TITLE,
            None,
            f"{NOT_RUN.capitalize()}: no finished run with softmax or fast fusion that logged its "
            "weights is among the folders; `python -m experiments.sweep "
            "--config=configs/ablations/fusion.py --rows=softmax,fast --workdir=DIR` makes them.",
        )
    chosen = _choose(_common_nodes(histories), nodes)
    figure, axes = new_figure(len(chosen), width=3.6, height=3.4)
    for panel, node in zip(axes, chosen, strict=True):
        for fusion, of_seeds in histories.items():
            _draw(panel, fusion, node, of_seeds)
        panel.set_title(node)
        panel.set_xlabel("training step")
        panel.sharey(axes[0])
        panel.label_outer()
    axes[0].set_ylabel("normalised weight")
    handles = {}
    for panel in axes:
        found, labels = panel.get_legend_handles_labels()
        handles |= dict(zip(labels, found, strict=True))
    labels = sorted(handles, key=lambda label: (label.split(",")[0], label.endswith("fast")))
    figure.legend(
        [handles[label] for label in labels],
        labels,
        loc="outside lower center",
        ncols=-(-len(labels) // len(histories)),  # a column per input
    )
    seeds = "; ".join(f"{fusion}: {len(runs)}" for fusion, runs in histories.items())
    absent = [fusion for fusion in _LINES if fusion not in histories]
    caption = (
        "Normalised weight of each input of a node against the training step, softmax solid, fast "
        f"normalised dashed. Lines are means over seeds ({seeds}), bands reach from the least to "
        "the most. Inputs are in the order of the node's inputs in the graph, `node_n` is the n-th "
        "node of its cell. The paper's figure shows three nodes of one COCO model, for which the "
        "two fusions nearly coincide."
    )
    caption += "".join(f" {fusion}: {NOT_RUN}." for fusion in absent)
    return Drawing(TITLE, figure, caption)


def read_history(folder: Path) -> History:
    """Reads a run's fusion_weights.jsonl; raises UserError where its lines do not fit together."""
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
    """Nodes with several inputs that all runs have, in the order of the network."""
    every = [history.nodes for of_seeds in histories.values() for history in of_seeds]
    several = [
        node
        for node, weights in every[0].items()
        if weights.shape[1] > 1 and all(node in nodes for nodes in every)
    ]
    if not several:
        raise UserError("the runs have no node with several inputs in common; give one at a time.")
    return sorted(several, key=lambda node: [int(part) for part in re.findall(r"\d+", node)])


def _choose(there: Sequence[str], wanted: Sequence[str]) -> list[str]:
    for node in wanted:
        if node not in there:
            near = difflib.get_close_matches(node, there, 1, 0.0)[0]
            raise UserError(f"--nodes={node}: there is no such node; did you mean {near}?")
    if wanted:
        return list(wanted)
    places = np.linspace(0, len(there) - 1, min(_NUM_NODES, len(there))).round().astype(int)
    return [there[place] for place in places]


def _draw(panel: Any, fusion: str, node: str, of_seeds: Sequence[History]) -> None:
    steps = sorted(set.intersection(*(set(history.steps.tolist()) for history in of_seeds)))
    weights = np.stack(
        [history.nodes[node][np.isin(history.steps, steps)] for history in of_seeds]
    )  # [seeds, S, E]
    for i in range(weights.shape[2]):
        color = COLORS[i % len(COLORS)]
        mean, low, high = (f(weights[:, :, i], axis=0) for f in (np.mean, np.min, np.max))
        panel.plot(steps, mean, _LINES[fusion], color=color, label=f"input {i + 1}, {fusion}")
        panel.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
