"""Does a long run stay as it was? Trains a small model for many steps and watches its process.

    python -m experiments.performance.soak
    python -m experiments.performance.soak --steps=2000 --every=200 --output=runs/soak

It is an ordinary run of `bifpn_jax.runs.loop`, on drawn shapes, with an evaluation and a checkpoint
after every `--every` steps. Meanwhile resident memory, what of it the C library has given out, open
files and threads of the process are read; OUTPUT/soak.csv has them all, and the table that is
printed their course. The exit status is 1 where memory grew by more than 3 % after the first fifth
of the run, or files or threads grew and did not come back.
"""

import csv
import ctypes
import statistics
import threading
import time
from pathlib import Path
from typing import NamedTuple

from absl import flags
from ml_collections import ConfigDict

from bifpn_jax.command_line import command
from bifpn_jax.errors import UserError
from bifpn_jax.recipe import base
from experiments.paper.table import Column, Table, to_markdown

FLAGS = flags.FLAGS

# Of a run that has settled: programs are compiled and pools of threads are full.
_SETTLED = 0.2
_TOLERANCES = {"resident_mb": 0.03, "allocated_mb": 0.03, "files": 0.0, "threads": 0.0}
_PARTS = 10
# Evaluations and checkpoints have helpers of their own, of which a tenth may have more by chance.
# What is not given back is there in all of the last tenths.
_COUNTS, _LAST_PARTS = ("files", "threads"), 3


class Sample(NamedTuple):
    """What the process holds at a time."""

    seconds: float
    steps: int  # of the last one that was logged
    resident_mb: float
    allocated_mb: float  # freed memory is kept and stays resident: this would show a leak in it
    files: int
    threads: int


def main(_: list[str]) -> int:
    """Runs the command."""
    from bifpn_jax.runs.loop import train_and_evaluate

    if FLAGS.every < 1 or FLAGS.steps < 5 * FLAGS.every:
        raise UserError(f"--steps={FLAGS.steps} --every={FLAGS.every}: give five rounds or more.")
    folder = command.make_folder(FLAGS.output)
    workdir = folder / "run"
    if workdir.exists():
        raise UserError(f"{workdir} is there already: name another folder, --output=DIR.")
    samples: list[Sample] = []
    try:
        with Watch(workdir, samples):
            train_and_evaluate(soak_config(FLAGS.steps, FLAGS.every), workdir)
    finally:
        with (folder / "soak.csv").open("w", newline="") as file:
            csv.writer(file).writerows([Sample._fields, *samples])
    print(to_markdown(course(samples)))
    faults = growth(samples)
    print("; ".join(faults) or "memory, files and threads stayed as they were")
    return 1 if faults else 0


def soak_config(steps: int, every: int) -> ConfigDict:
    """A D0 of two levels with a nano backbone, 64 pixels, two images a step.

    Args:
        steps: of the run.
        every: so many steps apart are evaluations and checkpoints.
    """
    config = base.get_config("d0")
    config.name = "soak"
    config.model.update({"backbone": "nano", "image_hw": (64, 64), "width": 16})
    config.model.update({"network_repeats": 1, "head_repeats": 1, "min_level": 5, "max_level": 6})
    config.model.anchor_scale = 1.0
    config.data.update({"source": "shapes", "max_boxes": 4})
    config.data.shapes = {"num_train": 200, "num_eval": 40, "seed": 0, "sides": (48, 72)}
    config.train.update({"batch_size": 2, "steps": steps})
    config.schedule.warmup_epochs = min(1.0, steps / 400)  # an epoch is 100 steps
    config.eval.update({"every_epochs": every / 100, "batch_size": 8})
    config.checkpoint.every_epochs = every / 100
    config.log.every_steps = min(every, 100)
    return config


class Watch:
    """Context in which a thread takes samples of this process, every second at first.

    Their number is bounded: when there are many, every other one is dropped and the pace is halved.
    """

    def __init__(self, workdir: Path, samples: list[Sample]) -> None:
        """Prepares it.

        Args:
            workdir: of the run, whose log says how far it is.
            samples: where they go.
        """
        self._log, self._samples = workdir / "metrics.jsonl", samples
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        began, pace = time.monotonic(), 1.0
        while not self._end.wait(pace):
            steps = _last_step(self._log)
            self._samples.append(take_sample(time.monotonic() - began, steps))
            if len(self._samples) >= 4000:
                del self._samples[::2]
                pace *= 2


def take_sample(seconds: float, steps: int) -> Sample:
    """Of this process, from Linux's /proc."""
    process = Path("/proc/self")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    resident = int(status["VmRSS"].split()[0]) / 1024
    files = len(list((process / "fd").iterdir()))
    allocated = _allocated() / 2**20
    threads = int(status["Threads"])
    return Sample(round(seconds, 1), steps, round(resident, 1), round(allocated, 1), files, threads)


class _Mallinfo(ctypes.Structure):
    """glibc's struct mallinfo2, from <malloc.h>."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def _allocated() -> int:
    """Bytes that glibc's malloc has given out; 0 where there is none that says so."""
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if ask is None:
        return 0
    ask.restype = _Mallinfo
    found = ask()
    return found.uordblks + found.hblkhd


def growth(samples: list[Sample]) -> list[str]:
    """What grew after the first fifth of the steps, a line each: medians of tenths are compared."""
    parts = _parts(samples)
    if len(parts) < 2:
        return ["the run was too short to say anything"]
    faults = []
    for name, tolerance in _TOLERANCES.items():
        values = [_median(part, name) for part in parts]
        later = min(values[1:][-_LAST_PARTS:]) if name in _COUNTS else max(values[1:])
        if later > values[0] * (1 + tolerance):
            faults.append(f"{name} grew from {values[0]:g} to {later:g}")
    return faults


def course(samples: list[Sample]) -> Table:
    """A row per tenth of the settled run."""
    rows = [
        (
            part[-1].steps,
            part[-1].seconds / 60,
            *(_median(part, name) for name in _TOLERANCES),
        )
        for part in _parts(samples)
    ]
    return Table(
        "soak",
        "Medians of every tenth of the run after its first fifth",
        [
            Column("steps", 0),
            Column("minutes", 1),
            Column("resident MB", 0),
            Column("allocated MB", 0),
            Column("open files", 0),
            Column("threads", 0),
        ],
        rows,
        "",
    )


def _median(part: list[Sample], name: str) -> float:
    return statistics.median_high([getattr(sample, name) for sample in part])


def _parts(samples: list[Sample]) -> list[list[Sample]]:
    """The settled samples in tenths of their steps, those without any left out."""
    last = samples[-1].steps if samples else 0
    first = _SETTLED * last
    parts: list[list[Sample]] = [[] for _ in range(_PARTS)]
    for sample in samples:
        if sample.steps >= first and last > first:
            place = int((sample.steps - first) / (last - first) * _PARTS)
            parts[min(place, _PARTS - 1)].append(sample)
    return [part for part in parts if part]


def _last_step(log: Path) -> int:
    """Number of the last step in a metrics.jsonl, 0 before there is one."""
    if not log.exists():
        return 0
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - 4096))
        lines = file.read().split(b"\n")
    for line in reversed(lines):
        if line.startswith(b'{"step": '):
            return int(line[9:].split(b",")[0].rstrip(b"}"))
    return 0


if __name__ == "__main__":
    flags.DEFINE_integer("steps", 20_000, "Training steps.")
    flags.DEFINE_integer("every", 500, "Steps between evaluations, and between checkpoints.")
    flags.DEFINE_string("output", "runs/soak", "Folder of the run and its samples.")
    command.run(main)
