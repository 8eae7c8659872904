"""Looks for leaks: trains a small model for many steps and watches its process.

    python -m experiments.performance.soak
    python -m experiments.performance.soak --steps=2000 --every=200 --output=runs/soak

This is an ordinary run of `bifpn_jax.runs.loop`, on drawn shapes, with an evaluation and a
checkpoint every `--every` steps. Meanwhile the process is sampled: resident memory, how much of it
malloc has allocated, open files and threads. OUTPUT/soak.csv has all samples, and the printed table
summarizes them. The exit status is 1 if memory grew by more than 3 % after the first fifth of the
run, or if the number of files or threads grew for good.
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

# The share of the run after which it has settled: programs are compiled, thread pools are full.
_SETTLED = 0.2
_TOLERANCES = {"resident_mb": 0.03, "allocated_mb": 0.03, "files": 0.0, "threads": 0.0}
_PARTS = 10
# Evaluations and checkpoints have their own threads, of which a tenth of the run may by chance have
# more. A leak shows in all of the last tenths.
_COUNTS, _LAST_PARTS = ("files", "threads"), 3


class Sample(NamedTuple):
    """The resources of the process at one time."""

    seconds: float
    steps: int  # number of the last logged step
    resident_mb: float
    allocated_mb: float  # freed memory stays resident; this shows a leak in it
    files: int
    threads: int


def main(_: list[str]) -> int:
    """Run the command."""
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
    """Return the config of a D0 with two levels, a nano backbone, 64 pixels, two images per step.

    Args:
        steps: steps of the run.
        every: steps between evaluations, and between checkpoints.
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
    """Context manager in which a thread samples this process, at first every second.

    The number of samples is bounded: when there are many, every other one is dropped and the rate
    is halved.
    """

    def __init__(self, workdir: Path, samples: list[Sample]) -> None:
        """Prepare the thread.

        Args:
            workdir: the workdir of the run, whose log has the current step.
            samples: the list to append samples to.
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
    """Take a sample of this process, from Linux's /proc."""
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
    """Return the bytes that glibc's malloc has allocated; 0 if it is not available."""
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if ask is None:
        return 0
    ask.restype = _Mallinfo
    found = ask()
    return found.uordblks + found.hblkhd


def growth(samples: list[Sample]) -> list[str]:
    """Return a line for each resource that grew after the first fifth, by medians of tenths."""
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
    """Return a table with a row per tenth of the settled run."""
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
    """Return the settled samples in tenths of their steps, without empty tenths."""
    last = samples[-1].steps if samples else 0
    first = _SETTLED * last
    parts: list[list[Sample]] = [[] for _ in range(_PARTS)]
    for sample in samples:
        if sample.steps >= first and last > first:
            place = int((sample.steps - first) / (last - first) * _PARTS)
            parts[min(place, _PARTS - 1)].append(sample)
    return [part for part in parts if part]


def _last_step(log: Path) -> int:
    """Return the last step in a metrics.jsonl, 0 if there is none yet."""
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
