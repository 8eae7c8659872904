"""Benchmarks this project on this machine, next to other code bases that are installed.

    python -m experiments.benchmark                       # everything
    python -m experiments.benchmark forward train --rounds=20
    pip install -e ".[peers]"                             # to compare with effdet (PyTorch)

Programs that do the same work take turns within one process, and each turn gives a ratio. Writes
benchmark.json, with every single time, and benchmark.md.
"""

import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags

from bifpn_jax.command_line import command
from bifpn_jax.errors import UserError
from bifpn_jax.train import devices
from experiments.paper import counts
from experiments.performance import ceilings, effdet_peer, network, predictions, resources
from experiments.performance.coco_scoring import coco_evaluation
from experiments.performance.contest import Contest
from experiments.performance.input_pipeline import input_pipeline
from experiments.performance.options import Options, parse_cases
from experiments.performance.report import PAGE_FILE, write_report

FLAGS = flags.FLAGS

PARTS: dict[str, Callable[[Options], list[Contest]]] = {
    "forward": network.forward,
    "train": network.train,
    "end_to_end": predictions.end_to_end,
    "postprocess": predictions.postprocessing,
    "input": input_pipeline,
    "evaluation": coco_evaluation,
    "compile": resources.compilation,
    "memory": resources.memory,
}
CEILINGS = "ceilings"


def main(words: list[str]) -> None:
    """Run the command."""
    known = [*PARTS, CEILINGS]
    for word in words:
        if word not in known:
            raise UserError(f"{word} is not a part of the benchmark; there are {', '.join(known)}.")
    parts = words or known
    # By default JAX would take most of a GPU's memory and leave none to the others.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    why = "not run because of --nopeers" if not FLAGS.peers else effdet_peer.missing()
    options = Options(
        rounds=FLAGS.rounds,
        forward=parse_cases("forward", FLAGS.forward),
        train=parse_cases("train", FLAGS.train),
        memory=parse_cases("memory", FLAGS.memory),
        images=Path(FLAGS.images) if FLAGS.images else None,
        annotations=Path(FLAGS.annotations) if FLAGS.annotations else None,
        peers=not why,
        dtype=FLAGS.dtype,
        remat=FLAGS.remat,
    )
    output = command.make_folder(FLAGS.output)
    contests: list[Contest] = []
    limits, shares = None, {}
    for part in parts:
        print(f"{part} …", file=sys.stderr, flush=True)
        if part != CEILINGS:
            contests += PARTS[part](options)
        else:
            limits = ceilings.measure_ceilings(options.rounds)
            for case in options.forward:
                model = counts.released_model(case.model)
                found = ceilings.measure_shares(model, case.batch_size, options.rounds)
                shares[f"{case.model}, batch {case.batch_size}"] = found
        # After each part, so that an interrupted benchmark keeps its results.
        page = write_report(output, _setting(options, why), contests, limits, shares)
    print(page)
    print(f"the page is in {output / PAGE_FILE}")


def _setting(options: Options, why: str) -> dict[str, Any]:
    packages = ["jax", "flax", *(("torch", "effdet", "timm") if options.peers else ())]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    return {
        "device": devices.device_name(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": f"Python {platform.python_version()}, {versions}",
        "peers": "effdet" if options.peers else why,
        "rounds": options.rounds,
    }


if __name__ == "__main__":
    flags.DEFINE_integer("rounds", 10, "How often everything is timed.", lower_bound=1)
    flags.DEFINE_list("forward", "d0:1,d1:1,d2:1,lite0:1", "MODEL:BATCH of the forward pass.")
    flags.DEFINE_list("train", "d0:2,d0:4,lite0:8", "MODEL:BATCH of the training step.")
    flags.DEFINE_list("memory", "d0:4", "MODEL:BATCH of the step whose memory is measured.")
    flags.DEFINE_string(
        "remat", "", "model.remat of that step, e.g. backbone,feature_network,heads."
    )
    flags.DEFINE_enum(
        "dtype", "float32", ["float32", "bfloat16"], "Of the forward pass and the training step."
    )
    flags.DEFINE_string("images", "", "Folder of real pictures; by default they are drawn.")
    flags.DEFINE_string("annotations", "", "COCO file of these pictures.")
    flags.DEFINE_bool("peers", True, "Run other code bases where they are installed.")
    flags.DEFINE_string("output", "runs/benchmark", "Folder for the numbers.")
    command.run(main, arguments="PART")
