"""Measurements that need a separate process: the time to compile, and peak memory.

    python -m experiments.performance.child compile d0 2
    python -m experiments.performance.child init d0 2
    python -m experiments.performance.child memory d0 4 backbone,heads
    python -m experiments.performance.child effdet_memory d0 4

Prints one line of JSON.
"""

import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bifpn_jax.command_line.process_memory import collect_garbage_rarely, keep_freed_memory
from bifpn_jax.errors import UserError

_STEPS = 3


def measure_in_child(
    what: str, model: str, batch_size: int, cache: Path, remat: str = ""
) -> dict[str, float]:
    """Run one measurement in a fresh process.

    Args:
        what: a key of `MEASURES`.
        model: name of a released model.
        batch_size: batch size of the training step.
        cache: folder for compiled programs.
        remat: the setting of our step, as in the config.

    Raises:
        UserError: the process failed; the message has the last line that it printed.
    """
    command = [sys.executable, "-m", "experiments.performance.child", what, model, str(batch_size)]
    command += [remat] if remat else []
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    if what.startswith("effdet"):
        # Set even if empty, so that the peer runs with malloc's defaults.
        environment["GLIBC_TUNABLES"] = ""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise UserError(f"measuring {what} of {model} failed: {lines[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _compile(model: str, batch_size: int) -> dict[str, float]:
    from experiments.paper import counts
    from experiments.performance import programs

    config = counts.released_config(model)
    network = counts.model_of(config, counts.COCO_OUTPUTS)
    step, state, batch = programs.step_to_trace(config, network, batch_size)
    step = programs.two_programs(step)
    began = time.perf_counter()
    step.compile(state, batch)
    return {"seconds": time.perf_counter() - began}


def _init(model: str, batch_size: int) -> dict[str, float]:
    import jax

    from bifpn_jax.models.initial_values import init_variables
    from experiments.paper import counts

    network = counts.model_of(counts.released_config(model), counts.COCO_OUTPUTS)
    began = time.perf_counter()
    jax.block_until_ready(init_variables(network, 0))
    return {"seconds": time.perf_counter() - began}


def _memory(model: str, batch_size: int, remat: str = "") -> dict[str, float]:
    from experiments.paper import counts
    from experiments.performance import programs

    config = counts.released_config(model)
    config.model.remat = remat
    network = counts.model_of(config, counts.COCO_OUTPUTS)
    return _peak(programs.training_step(config, network, batch_size))


def _effdet_memory(model: str, batch_size: int) -> dict[str, float]:
    from bifpn_jax.models.scaling import MODELS
    from experiments.performance import effdet_peer, programs

    image_hw = (MODELS[model].image_size,) * 2
    boxes, labels = programs.random_boxes(batch_size, image_hw)
    return _peak(effdet_peer.train_step(model, image_hw, boxes, labels))


def _peak(step: Callable[[], object]) -> dict[str, float]:
    """Return the peak memory of the process in MiB, before and after some steps."""
    before = _resident_peak()
    for _ in range(_STEPS):
        step()
    return {"before": before, "peak": _resident_peak()}


def _resident_peak() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        # Only this program; getrusage also counts the process that started it.
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


MEASURES: Mapping[str, Callable[..., dict[str, Any]]] = {
    "init": _init,
    "compile": _compile,
    "memory": _memory,
    "effdet_memory": _effdet_memory,
}

if __name__ == "__main__":
    if not sys.argv[1].startswith("effdet"):
        keep_freed_memory()
        collect_garbage_rarely()
    print(json.dumps(MEASURES[sys.argv[1]](sys.argv[2], int(sys.argv[3]), *sys.argv[4:])))
