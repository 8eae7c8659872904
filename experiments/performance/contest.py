"""Programs that do the same work take turns; each turn gives one ratio of their times."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

OURS = "bifpn_jax"

_TURN = 0.5  # seconds


class Contest(NamedTuple):
    """What one kind of work cost.

    Attributes:
        work: in words, "forward, batch 1".
        model: whose, "d0"; "" where there is none.
        unit: of the values, less is better: "s" or "MiB".
        values: contestant -> one value per round, all with the same number; `OURS` is one of them.
        remarks: what a reader should know, such as who was left out and why.
    """

    work: str
    model: str
    unit: str
    values: dict[str, list[float]]
    remarks: tuple[str, ...] = ()

    @property
    def others(self) -> list[str]:
        """The contestants but us."""
        return [name for name in self.values if name != OURS]

    def ratios(self, other: str) -> list[float]:
        """Another's value over ours, round by round: above 1, ours is better."""
        return [a / b for a, b in zip(self.values[other], self.values[OURS], strict=True)]

    def as_json(self) -> dict[str, Any]:
        """The contest with its medians, for a file."""
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
    """Times contestants, one of them `OURS`, as `take_turns` does; the rest as in `Contest`."""
    return Contest(work, model, "s", take_turns(contestants, rounds, warmup), remarks)


def take_turns(
    contestants: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 2
) -> dict[str, list[float]]:
    """Seconds of each contestant in each round.

    In its turn a contestant is called until half a second has passed, and the median of its calls
    counts: what was idle while others ran (caches, threads, the clock of the cores) is warm again,
    as in a program that does nothing else.

    Args:
        contestants: name -> a function that returns when its work is done.
        rounds: how often each is timed.
        warmup: rounds before them that do not count, in which programs are compiled.
    """
    names = list(contestants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warmup + rounds):
        # Whoever follows a heavy one finds other caches: the order turns with the rounds.
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
