"""Times programs that do the same work in turns; each turn gives one ratio of their times."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

OURS = "bifpn_jax"

_TURN = 0.5  # seconds


class Contest(NamedTuple):
    """The cost of one kind of work.

    Attributes:
        work: description of the work, "forward, batch 1".
        model: the model, "d0"; "" if there is none.
        unit: unit of the values, "s" or "MiB"; lower is better.
        values: contestant -> one value per round; `OURS` is one of the contestants.
        remarks: remarks for the reader, such as who was skipped and why.
    """

    work: str
    model: str
    unit: str
    values: dict[str, list[float]]
    remarks: tuple[str, ...] = ()

    @property
    def others(self) -> list[str]:
        """Return the contestants except ours."""
        return [name for name in self.values if name != OURS]

    def ratios(self, other: str) -> list[float]:
        """Return another contestant's value over ours for each round: above 1, ours is better."""
        return [a / b for a, b in zip(self.values[other], self.values[OURS], strict=True)]

    def as_json(self) -> dict[str, Any]:
        """Return the contest with its medians, for a file."""
        medians = {name: statistics.median(values) for name, values in self.values.items()}
        return self._asdict() | {
            "median": medians,
            "median_ratio": {name: statistics.median(self.ratios(name)) for name in self.others},
        }


def compete(
    work: str,
    contestants: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int = 2,
    model: str = "",
    remarks: tuple[str, ...] = (),
) -> Contest:
    """Time contestants, one of them `OURS`, by `take_turns`; the rest is as in `Contest`."""
    return Contest(work, model, "s", take_turns(contestants, rounds, warmup), remarks)


def take_turns(
    contestants: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 2
) -> dict[str, list[float]]:
    """Return the seconds of each contestant in each round.

    In its turn a contestant is called until half a second has passed, and the median of its calls
    counts. Caches, threads and core clocks that were idle while others ran are then warm again, as
    in a program that does nothing else.

    Args:
        contestants: name -> a function that returns when its work is done.
        rounds: how often each is timed.
        warmup: rounds before them that do not count, in which programs are compiled.
    """
    names = list(contestants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warmup + rounds):
        # A contestant's caches depend on the one before it, so the order rotates with the rounds.
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            took = _one_turn(contestants[name])
            if turn >= warmup:
                seconds[name].append(took)
    return seconds


def _one_turn(run: Callable[[], object]) -> float:
    calls: list[float] = []
    began = now = time.perf_counter()
    while not calls or now - began < _TURN:
        before = now
        run()
        now = time.perf_counter()
        calls.append(now - before)
    return statistics.median(calls)
