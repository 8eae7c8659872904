r"""Writes the paper's tables, with its numbers next to those of finished runs.

    python -m experiments.tables runs/fusion runs/feature_networks --output=docs/results

Folders are those of experiments.sweep, and workdirs of single runs of D0-D7x for Table 2. Without
folders, the tables have the paper's numbers and what needs no training: parameters and
multiply-adds. Every table is written as Markdown and CSV, and combined with the figures in
results.md.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags

from bifpn_jax.command_line import command
from bifpn_jax.errors import UserError
from experiments.paper import backbone_table, fusion_table, latency, networks_table, paper_numbers
from experiments.paper.files import write_results, write_table
from experiments.paper.finished_runs import Results, read_results
from experiments.paper.models_table import table2
from experiments.paper.scaling_table import table1
from experiments.paper.study_table import study_table
from experiments.paper.table import Table

TABLES = ("1", "2", "4", "5", "6")


def write_tables(results: Results, output: Path, numbers: Sequence[str] = TABLES) -> list[str]:
    """Write tables, one more for each study, and results.md; return the names of the files.

    Args:
        results: the runs.
        output: an existing folder.
        numbers: numbers of the paper's tables, from `TABLES`.
    """
    studies = results.studies
    folders = [study.folder for study in studies.values()]
    make: dict[str, Callable[[], Table]] = {
        "1": table1,
        "2": lambda: table2(results.models, latency.read_latency(output)),
        "4": lambda: backbone_table.table4(studies.get(backbone_table.STUDY)),
        "5": lambda: networks_table.table5(studies.get(networks_table.STUDY)),
        "6": lambda: fusion_table.table6(
            studies.get(fusion_table.STUDY), fusion_table.read_fusion_speed(folders)
        ),
    }
    written = []
    for number in numbers:
        print(f"Table {number} …", file=sys.stderr, flush=True)
        written += write_table(output, make[number]())
    for study in studies.values():
        print(f"study {study.name} …", file=sys.stderr, flush=True)
        written += write_table(output, study_table(study))
    return [*written, write_results(output)]


def choose(flag: str, words: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the words in the order of `known`; a word that is not in it is a UserError."""
    for word in words:
        if word not in known:
            raise UserError(f"--{flag}={word}: not available; use {', '.join(known)}.")
    return [word for word in known if word in words]


def main(words: list[str]) -> None:
    """Run the command."""
    given = flags.FLAGS
    numbers = choose("tables", given.tables, TABLES)
    names = choose("latency_models", given.latency_models, list(paper_numbers.EFFICIENTDET))
    results = read_results(words)
    output = command.make_folder(given.output)
    if given.latency:
        latency.write_latency(output, latency.measure(names))
    written = write_tables(results, output, numbers)
    print(f"{', '.join(written)} are in {output}")


if __name__ == "__main__":
    flags.DEFINE_string("output", "runs/results", "Folder for the tables.")
    flags.DEFINE_list("tables", list(TABLES), "Which of the paper's tables to write.")
    flags.DEFINE_bool(
        "latency", False, "Measure the latency of Table 2's models on this machine; kept for later."
    )
    flags.DEFINE_list(
        "latency_models", list(paper_numbers.EFFICIENTDET), "Of which models, with --latency."
    )
    command.run(main, arguments="RUN")
