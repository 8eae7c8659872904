"""Time to compile and peak of memory, of the training step."""

import tempfile
from pathlib import Path

from experiments.benchmarks.child import measure_in_child
from experiments.benchmarks.contest import OURS, Contest
from experiments.benchmarks.options import Options

_MODEL, _COMPILE_BATCH, _MEMORY_BATCH = "d0", 2, 4


def compilation(options: Options) -> list[Contest]:
    """Tracing, lowering and compiling, with an empty cache and with the program in it."""
    with tempfile.TemporaryDirectory() as folder:
        cold, warm = (
            measure_in_child("compile", _MODEL, _COMPILE_BATCH, Path(folder)) for _ in range(2)
        )
    contests = []
    for what, found in (("cold", cold), ("warm", warm)):
        parts = ", ".join(f"{part} {found[part]:.1f} s" for part in ("trace", "lower", "compile"))
        work = f"compile the training step, batch {_COMPILE_BATCH}, {what}"
        contests.append(Contest(work, _MODEL, "s", {OURS: [found["total"]]}, (parts,)))
    return contests


def memory(options: Options) -> list[Contest]:
    """Peak of the whole process over three steps, with the program compiled by an earlier one."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        measure_in_child("memory", _MODEL, _MEMORY_BATCH, cache)
        ours = measure_in_child("memory", _MODEL, _MEMORY_BATCH, cache)
        values = {OURS: [ours["peak"]]}
        if options.peers:
            theirs = measure_in_child("effdet_memory", _MODEL, _MEMORY_BATCH, cache)
            values["effdet channels-last"] = [theirs["peak"]]
    work = f"peak memory of the training step, batch {_MEMORY_BATCH}"
    return [Contest(work, _MODEL, "MiB", values)]
