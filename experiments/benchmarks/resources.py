"""Time to compile and peak of memory, of the training step."""

import tempfile
from pathlib import Path

from experiments.benchmarks.child import measure_in_child
from experiments.benchmarks.contest import OURS, Contest
from experiments.benchmarks.options import Options

_MODEL, _COMPILE_BATCH = "d0", 2


def compilation(options: Options) -> list[Contest]:
    """Tracing, lowering and compiling, with an empty cache and with the programs in it."""
    with tempfile.TemporaryDirectory() as folder:
        cold, warm = (
            measure_in_child("compile", _MODEL, _COMPILE_BATCH, Path(folder)) for _ in range(2)
        )
    contests = []
    for what, found in (("cold", cold), ("warm", warm)):
        work = f"compile the training step, batch {_COMPILE_BATCH}, {what}"
        contests.append(Contest(work, _MODEL, "s", {OURS: [found["seconds"]]}))
    return contests


def memory(options: Options) -> list[Contest]:
    """Peak of the whole process over three steps, with the program compiled by an earlier one."""
    contests = []
    for model, batch_size in options.memory:
        with tempfile.TemporaryDirectory() as folder:
            ours = ("memory", model, batch_size, Path(folder), options.remat)
            measure_in_child(*ours)
            values = {OURS: [measure_in_child(*ours)["peak"]]}
            if options.peers:
                theirs = measure_in_child("effdet_memory", model, batch_size, Path(folder))
                values["effdet channels-last"] = [theirs["peak"]]
        remat = f", remat={options.remat}" if options.remat else ""
        work = f"peak memory of the training step, batch {batch_size}{remat}"
        contests.append(Contest(work, model, "MiB", values))
    return contests
