"""Tables of the cost model in `step_time` and `clusters` for different numbers of devices."""

from collections.abc import Mapping
from typing import Any

from bifpn_jax.train.schedule import peak_learning_rate
from experiments.paper.table import Column, Table
from experiments.performance.data_parallel import step_time
from experiments.performance.data_parallel.clusters import CLUSTERS, LINK_EFFICIENCY, Cluster
from experiments.performance.data_parallel.counting import Counts
from experiments.performance.data_parallel.step_time import Setup, StepTime, work_of
from experiments.performance.roofline import ACCELERATORS

Found = Mapping[str, Counts]

DEVICES = (8, 16, 32, 64, 128, 256, 512, 1024)
COCO_IMAGES = 118_287  # in train2017
PAPER_BATCH = 128

# Words, setup, images per device, and whether independent all-reduces go together.
CHANGES: list[tuple[str, Setup, int, bool]] = [
    ("as it is, 4 images", Setup(), 4, False),
    ("statistics over groups of 8", Setup(group=8), 4, False),
    ("statistics over groups of 32", Setup(group=32), 4, False),
    ("independent statistics together", Setup(), 4, True),
    ("together, over groups of 8", Setup(group=8), 4, True),
    ("gradients sent in bfloat16", Setup(gradient_width=2), 4, False),
    ("8 images", Setup(), 8, False),
    ("`train.accumulate=4`, 16 images", Setup(accumulate=4), 4, False),
    ("16 images at once", Setup(), 16, False),
]


def time_of(
    counts: Counts,
    devices: int,
    chip: str,
    batch_size: int = 4,
    *,
    setup: Setup | None = None,
    chain: bool = False,
) -> StepTime:
    """Return `step_time` of a counted model on a named accelerator."""
    work = work_of(counts, batch_size, chain=chain)
    return step_time.step_time(work, devices, ACCELERATORS[chip], CLUSTERS[chip], setup)


def constants_table() -> Table:
    """Return all numbers that the cost model takes from elsewhere or assumes."""
    rows: list[tuple[str, ...]] = []
    for what, show in _CONSTANTS.items():
        rows.append((what, *(show(ACCELERATORS[name], CLUSTERS[name]) for name in CLUSTERS)))
    return Table(
        "constants",
        "Constants of the model",
        [Column("constant"), *(Column(name) for name in CLUSTERS)],
        rows,
        "Peaks, bandwidths, memory and sizes of domains are the vendors': NVIDIA's data sheets "
        "of H100 SXM and DGX H100 (NVLink 900 GB/s both ways, one 400 Gb/s port per GPU), "
        "Google's system architecture pages of v5e (1,600 Gb/s, 6.4 Tb/s of network for a pod "
        "of 256) and v5p (4,800 Gb/s, 50 Gb/s of network per chip). Latencies of H100 are the "
        "constants in NCCL's source by which it chooses its algorithms: a tree with the "
        "low-latency protocol. Where a TPU's axes close to rings is from How to Scale Your "
        "Model, by the makers of JAX. Our assumptions, without a source: 1 µs for a hop on a "
        "TPU, 25 µs between TPU pods, and the shares in the next line.",
        [
            f"For all: the step reaches {step_time.UTILIZATION:.0%} of peak and of memory "
            f"bandwidth, an all-reduce {LINK_EFFICIENCY:.0%} of a link's; with overlap, gradients "
            f"are sent during the last {step_time.BACKWARD:.0%} of the arithmetic; all-reduces of "
            f"gradients hold {step_time.BUCKET // 2**20} MiB, as XLA combines them by default.",
        ],
    )


def efficiency_table(found: Found, chip: str, batch_size: int) -> Table:
    """Return the efficiency against one device, without and with overlap of the gradients."""
    rows = []
    for name, counts in found.items():
        times = [time_of(counts, n, chip, batch_size) for n in DEVICES]
        cells = [
            f"{t.efficiency(overlap=False):.2f}–{t.efficiency(overlap=True):.2f}" for t in times
        ]
        rows.append((name, 1e3 * times[0].compute, *cells))
    return Table(
        f"efficiency_{chip}_{batch_size}",
        f"Efficiency on {chip}, {batch_size} images per device",
        [Column("model"), Column("ms without exchange", 1), *(Column(f"{n}") for n in DEVICES)],
        rows,
        "Columns: devices. Ranges: from no overlap to full overlap of the gradients' exchange. A "
        "step takes the milliseconds of the second column divided by the efficiency.",
    )


def parts_table(found: Found, devices: int) -> Table:
    """Return the parts of a step's time at one number of devices."""
    rows = []
    for name, counts in found.items():
        times = [time_of(counts, devices, chip) for chip in CLUSTERS]
        cells = [1e3 * part for t in times for part in (t.compute, t.statistics, t.gradients)]
        rows.append((name, *cells))
    return Table(
        "parts",
        f"Milliseconds of a step on {devices} devices, 4 images each",
        [
            Column("model"),
            *(
                Column(f"{chip}: {part}", 1)
                for chip in CLUSTERS
                for part in ("work", "statistics", "gradients")
            ),
        ],
        rows,
        "Work: the roofline at the stated utilisation. Statistics: all-reduces that the step waits "
        "for. Gradients: their all-reduces, without overlap.",
    )


def changes_table(counts: Counts, name: str) -> Table:
    """Return the efficiency of a model without overlap, with one change at a time."""
    sizes = (8, 64, 256, 1024)
    rows = []
    for words, setup, batch_size, chain in CHANGES:
        cells = [
            time_of(counts, n, chip, batch_size, setup=setup, chain=chain).efficiency(overlap=False)
            for chip in CLUSTERS
            for n in sizes
        ]
        rows.append((words, *cells))
    return Table(
        f"changes_{name}",
        f"What changes help {name}, efficiency without overlap",
        [Column("change"), *(Column(f"{chip}, {n}", 2) for chip in CLUSTERS for n in sizes)],
        rows,
        "Each relative to one device with the same number of images, so rows with more images are "
        "compared to a slower step.",
    )


def fixed_batch_table(found: Found) -> Table:
    """Return the milliseconds of a step of the paper's batch for growing numbers of devices."""
    sizes = [n for n in DEVICES if n <= PAPER_BATCH]
    rows = [
        (
            f"{name}, {chip}",
            *(1e3 * time_of(counts, n, chip, PAPER_BATCH // n).total(overlap=True) for n in sizes),
        )
        for name, counts in found.items()
        for chip in CLUSTERS
    ]
    return Table(
        "fixed_batch",
        f"Milliseconds of a step of {PAPER_BATCH} images on all devices together",
        [Column("model"), *(Column(f"{n}", 1) for n in sizes)],
        rows,
        "Columns: devices. With full overlap of the gradients' exchange.",
    )


def rate_table(base: Any) -> Table:
    """Return the learning rate by the scaling rule for growing batches, four images per device.

    Args:
        base: the config of any released model.
    """
    horizon = 1 / (1 - base.ema_decay)
    rows = []
    for devices in (32, *(n for n in DEVICES if n > 32)):
        batch = 4 * devices
        per_epoch = COCO_IMAGES / batch
        total = per_epoch * base.train.epochs
        rate = peak_learning_rate(batch, base.schedule.base_rate)
        warmup = per_epoch * base.schedule.warmup_epochs
        rows.append((f"{devices}", f"{batch}", rate, per_epoch, warmup, total, total / horizon))
    return Table(
        "rate",
        f"The schedule of {base.train.epochs:g} epochs of COCO as batches grow",
        [
            Column("devices"),
            Column("batch"),
            Column("peak learning rate", 2),
            Column("steps per epoch", 0),
            Column("steps of warm-up", 0),
            Column("steps", 0),
            Column("run / horizon of the weight average", 1),
        ],
        rows,
        f"The rate is {base.schedule.base_rate:g} per 64 images. The average of the weights "
        f"(`ema_decay={base.ema_decay:g}`) looks back {horizon:,.0f} steps whatever the batch.",
    )


def _latency(cluster: Cluster) -> str:
    return f"{1e6 * cluster.start:g} + {1e6 * cluster.hop:g} per hop"


_CONSTANTS = {
    "bfloat16, T operations per second": lambda chip, _: f"{chip.bfloat16 / 1e12:g}",
    "memory, GB/s": lambda chip, _: f"{chip.bandwidth / 1e9:,.0f}",
    "memory, GB": lambda _, cluster: f"{cluster.memory / 1e9:.0f}",
    "devices with fast links": lambda _, cluster: f"{cluster.domain:,}",
    "fast links, GB/s out of a device": lambda _, cluster: f"{cluster.inside / 1e9:g}",
    "network, GB/s out of a device": lambda _, cluster: f"{cluster.outside / 1e9:g}",
    "latency of fast links, µs": lambda _, cluster: _latency(cluster),
    "latency of a stage of the network, µs": lambda _, cluster: f"{1e6 * cluster.stage:g}",
    "topology": lambda _, cluster: f"torus of {cluster.axes} axes" if cluster.axes else "switch",
    "axes that are rings": lambda _, cluster: (
        f"multiples of {cluster.ring}" if cluster.axes else "–"
    ),
}
