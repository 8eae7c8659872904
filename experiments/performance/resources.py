"""Time to compile the training step, and its peak memory."""

import tempfile
from pathlib import Path

from experiments.performance.child import measure_in_child
from experiments.performance.contest import OURS, Contest
from experiments.performance.options import Options

_MODEL, _COMPILE_BATCH = "d0", 2


def compilation(options: Options) -> list[Contest]:
    """Measure the cost of starting, with an empty and with a filled compilation cache.

    It consists of drawing the initial values, and of tracing, lowering and compiling the step.
    """
    step = f"compile the training step, batch {_COMPILE_BATCH}"
    parts = {"init": "draw the initial values", "compile": step}
    contests = []
    with tempfile.TemporaryDirectory() as folder:
        for what in ("cold", "warm"):
            for part, words in parts.items():
                found = measure_in_child(part, _MODEL, _COMPILE_BATCH, Path(folder))
                seconds = {OURS: [found["seconds"]]}
                contests.append(Contest(f"{words}, {what}", _MODEL, "s", seconds))
    return contests


def memory(options: Options) -> list[Contest]:
    """Measure the process's peak memory over three steps, with the program already compiled."""
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
