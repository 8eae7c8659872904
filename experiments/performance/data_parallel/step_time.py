"""Time and efficiency of a data-parallel training step by a cost model; nothing is timed."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from experiments.performance.data_parallel.all_reduces import GRADIENTS, STATISTICS
from experiments.performance.data_parallel.clusters import Cluster, all_reduce_seconds
from experiments.performance.roofline import Accelerator

UTILIZATION = 0.5  # share of peak and of memory bandwidth that the step reaches; assumed
BACKWARD = 2 / 3  # share of the step in which gradients appear and can be sent
BUCKET = 30 * 2**20  # bytes of gradients that the compiler puts into one all-reduce


class Work(NamedTuple):
    """The work of one step on one device.

    Attributes:
        flops: operations of convolutions and products.
        bytes: bytes read from memory and written to it.
        gradients: bytes that are summed over all devices at the end.
        statistics: bytes of batch statistics that are summed in between.
        rounds: number of consecutive all-reduces of batch statistics.
    """

    flops: float
    bytes: float
    gradients: float
    statistics: float
    rounds: int


class Setup(NamedTuple):
    """The settings of the exchange.

    Attributes:
        group: devices that share batch statistics; 0 for all.
        gradient_width: bytes per gradient value that is sent, 4 or 2.
        accumulate: number of consecutive parts of the work before the gradients are summed.
    """

    group: int = 0
    gradient_width: int = 4
    accumulate: int = 1


class StepTime(NamedTuple):
    """Seconds of the parts of a step.

    Attributes:
        compute: arithmetic or memory traffic, whichever is longer.
        statistics: all-reduces of batch statistics, which the step waits for.
        gradients: all-reduces of gradients.
        normalizer: all-reduce of the loss's normaliser, a scalar.
    """

    compute: float
    statistics: float
    gradients: float
    normalizer: float

    def total(self, *, overlap: bool) -> float:
        """Return seconds of the step; with `overlap`, gradients are sent in the backward pass."""
        hidden = min(self.gradients, BACKWARD * self.compute) if overlap else 0.0
        return sum(self) - hidden

    def efficiency(self, *, overlap: bool) -> float:
        """Return images per second and device, as a share of those of a single device."""
        return self.compute / self.total(overlap=overlap)


def work_of(counts: Mapping[str, Any], batch_size: int, *, chain: bool = False) -> Work:
    """Return the work from a model's counts; memory traffic is linear in the batch size.

    Args:
        counts: `counting.count_step` of two batch sizes or more.
        batch_size: images on each device.
        chain: whether independent all-reduces are combined.
    """
    sums = counts["all_reduces"]
    return Work(
        flops=at_batch(counts, "flops", batch_size),
        bytes=at_batch(counts, "bytes", batch_size),
        gradients=sums[GRADIENTS]["bytes"],
        statistics=sums[STATISTICS]["bytes"],
        # Two arrays each: of the values and of their squares, or of two products.
        rounds=counts["chain"] if chain else sums[STATISTICS]["arrays"] // 2,
    )


def at_batch(counts: Mapping[str, Any], what: str, batch_size: int) -> float:
    """Return a number of "work" at any batch size, on the line through the two counted ones."""
    low, high = min(counts["work"], key=int), max(counts["work"], key=int)
    first, last = counts["work"][low][what], counts["work"][high][what]
    return first + (last - first) * (batch_size - int(low)) / (int(high) - int(low))


def step_time(
    work: Work, devices: int, chip: Accelerator, cluster: Cluster, setup: Setup | None = None
) -> StepTime:
    """Return the time of a step.

    Args:
        work: the work of one step, or of one part if gradients are accumulated.
        devices: number of devices, a power of two.
        chip: the accelerator.
        cluster: how the devices are connected.
        setup: the settings of the exchange, by default the project's.
    """
    setup = setup or Setup()
    compute = max(work.flops / chip.bfloat16, work.bytes / chip.bandwidth) / UTILIZATION
    group = min(setup.group or devices, devices)
    share = work.statistics / max(work.rounds, 1)
    gradients = work.gradients * setup.gradient_width / 4
    buckets = -(-int(gradients) // BUCKET)
    return StepTime(
        compute=setup.accumulate * compute,
        statistics=setup.accumulate * work.rounds * all_reduce_seconds(share, group, cluster),
        gradients=buckets * all_reduce_seconds(gradients / max(buckets, 1), devices, cluster),
        normalizer=all_reduce_seconds(4, devices, cluster),
    )
