"""How accelerators are connected, and the time of an all-reduce over them by a cost model."""

import math
from typing import NamedTuple

LINK_EFFICIENCY = 0.8  # share of a link's bandwidth that an all-reduce gets; assumed


class Cluster(NamedTuple):
    """Devices of one kind with two tiers of links; bandwidths are the vendor's, in one direction.

    Attributes:
        memory: bytes of each device.
        domain: number of devices connected by fast links: a pod, or a host with a switch.
        axes: axes of the torus of fast links; 0 for a switch.
        ring: an axis with a multiple of this many devices is closed to a ring.
        inside: bytes per second that a device sends over all of its fast links.
        outside: bytes per second that a device sends to other domains.
        start: fixed seconds per operation, independent of its size and reach.
        hop: seconds from a device to the next one in its domain.
        stage: seconds from one domain to another.
    """

    memory: float
    domain: int
    axes: int
    ring: int
    inside: float
    outside: float
    start: float
    hop: float
    stage: float


# Sources of the numbers are in the page's table of constants (`constants`).
CLUSTERS = {
    "H100": Cluster(80e9, 8, 0, 1, 450e9, 50e9, 6.8e-6, 0.6e-6, 5e-6),
    "TPU v5e": Cluster(16e9, 256, 2, 16, 200e9, 3.125e9, 0.0, 1e-6, 25e-6),
    "TPU v5p": Cluster(95 * 2**30, 8960, 3, 4, 600e9, 6.25e9, 0.0, 1e-6, 25e-6),
}


def torus(devices: int, axes: int) -> tuple[int, ...]:
    """Return the sides of the most even torus of 2^n devices: 32 on 3 axes are (2, 4, 4)."""
    power = devices.bit_length() - 1
    return tuple(2 ** ((power + axis) // axes) for axis in range(axes))


def all_reduce_seconds(size: float, devices: int, cluster: Cluster) -> float:
    """Return the time to sum an array over devices so that every one of them has the sum.

    Inside a domain every device sends `2 (m - 1) / m` times the array; each of them then sums its
    m-th part with those of the other domains in the same way. The latency is twice that of the hops
    on the longest path.

    Args:
        size: bytes of the array on one device.
        devices: a power of two; they are in one domain if they fit.
        cluster: the cluster of the devices.
    """
    if devices == 1:
        return 0.0
    near = min(devices, _power_of_two(cluster.domain))
    far = devices // near
    sides = torus(near, cluster.axes) if cluster.axes else (near,)
    closed = all(side % cluster.ring == 0 for side in sides)
    # A line of devices sends over one link in each direction, a ring over both.
    inside = cluster.inside * LINK_EFFICIENCY * (1.0 if closed else 0.5)
    outside = cluster.outside * LINK_EFFICIENCY
    moved = _ring(near) * size / inside + _ring(far) * size / near / outside
    hops = sum(side // 2 if cluster.axes and closed else side - 1 for side in sides)
    waited = 2 * (hops * cluster.hop + math.log2(far) * cluster.stage)
    return cluster.start + waited + moved


def _ring(devices: int) -> float:
    return 2 * (devices - 1) / devices


def _power_of_two(limit: int) -> int:
    return 1 << (limit.bit_length() - 1)
