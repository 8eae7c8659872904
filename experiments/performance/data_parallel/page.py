"""The page about scaling with the number of devices, from the counts of `counting`."""

import re
from collections.abc import Mapping
from typing import Any

from experiments.paper.table import Table, to_markdown
from experiments.performance.data_parallel import count_tables, time_tables
from experiments.performance.data_parallel.all_reduces import GRADIENTS, STATISTICS
from experiments.performance.data_parallel.clusters import CLUSTERS
from experiments.performance.data_parallel.counting import Counts
from experiments.performance.data_parallel.step_time import Setup
from experiments.performance.data_parallel.time_tables import time_of

_PAGE = """\
# Scaling with the number of devices

```bash
{command}
```

This command writes this page from [scaling/counts.json](scaling/counts.json), after counting what
is missing in that file; `--compile=d0,d1` compiles as well. **Nothing was measured on several
accelerators**; a single H100 reached 0.26 of its memory bandwidth with D0
([performance.md](performance.md)), where 0.5 is assumed below. The first
part is counted from the program of the data-parallel training step, with batch norms over all
devices, on eight virtual CPU devices. The second part is arithmetic on these counts, by the cost
model below.

In short, by that model:

- Gradients do not limit the scaling of EfficientDet. {small} exchanges
  {small_gradients:.1f} MB of gradients and {small_statistics:.2f} MB of batch statistics per step,
  but the statistics take {small_rounds} all-reduces that the step waits for: on 256 H100,
  {wait_statistics:.0f} ms of waiting, compared to {wait_gradients:.1f} ms for the gradients and
  {work:.1f} ms of work.
- The bottleneck is latency. Statistics over groups of 8 devices raise the efficiency of {small} on
  256 H100, the speed per device relative to a single one, from {as_it_is:.2f} to {grouped:.2f};
  gradients in bfloat16, to {half:.2f}.
- More images per device help as much as anything: with 16 of them, {sixteen:.2f}.
- {large} has {large_gradients:.0f} MB of gradients, and so much work per image that its efficiency
  on 256 devices is {large_low:.2f} to {large_high:.2f} on the three accelerators.

## What is counted

{counted}
## The model

A step takes the longer of two times, operations at peak and memory traffic at bandwidth, at a
stated utilisation; then its exchanges:

    work        = max(operations / peak, bytes / bandwidth) / utilisation
    all-reduce  = start + 2 * (hops * hop + log2(k) * stage)
                + 2 (m - 1) / m * bytes / fast links + 2 (k - 1) / k * bytes / m / network
    step        = work + rounds * all-reduce(statistics) + all-reduces(gradients)
                + all-reduce(normaliser)
    efficiency  = work / step

where n = m k devices are k domains (hosts, pods) of m. Every all-reduce pays an operation's latency
once, which is the cost of the many small ones. Hops are those of the longest path: s / 2 on each
axis of a torus with a ring of s devices, s - 1 if the axis is not closed, which also halves the
bandwidth. All-reduces of statistics run one after the other and are not overlapped. Those of
gradients are added (no overlap) or run during the backward pass (full overlap). Efficiency is the
speed per device relative to one device without exchanges, with the same number of images per
device.

Not included: input pipelines, logging, checkpoints, devices that wait for the slowest one,
contention with others, and the software's time to start an operation on TPUs. Memory traffic is a
lower bound. All of these make a real step slower; if work is slower too, the share of exchanges
falls. Rely on the orders of magnitude on this page, not on the second digit.

A v5e slice has closed rings only at 256 chips, a v5p slice from 64 on: hence the jumps in their
rows. A group of devices counts as a separate slice.

{modelled}
## What to change, and when

{changes}
The options:

- **Batch statistics over groups**: `--config.model.batch_norm_group=8`, for groups of neighbouring
  devices, so of one host if a host has 8. The running statistics of the groups are averaged once
  per step, along with the gradients ({running:.2f} MB for {small}; not included above). The size of
  the groups affects training: a batch norm then sees 32 images instead of all. google/automl has
  groups of up to 32 cores, which is 128 images. From 64 H100 on, use 8 or 32.
- **Independent statistics in one all-reduce**: up to the compiler. The program has separate
  all-reduces, and compiled for CPU it has fewer operations than all-reduces (see above).
- **Gradients in bfloat16**: not implemented. By the model the gain in efficiency is at most
  {half_gain:.3f} ({half_where}), because gradients are a small part.
- **Gradient accumulation** (`--config.train.accumulate`): helps only the exchange of gradients.
  Each part has its own batch statistics, so {small} on 256 H100 goes from {as_it_is:.2f} to
  {accumulated:.2f} with four parts, and to {sixteen:.2f} with the same 16 images at once.
  It saves memory, not time.
- **More images per device**: the first thing to do if memory allows (see "Most images per device"
  above). `--config.model.remat` makes room for them, at the cost of most of another forward pass.

## Where the batch gets too large

{batches}
The published runs have batches of 128. Beyond some thousand images the rule gives learning rates
that have not been tried, the warm-up of one epoch is only a few dozen steps, and a run is hardly
longer than the horizon of the weight average: lower `--config.ema_decay`, lengthen
`--config.schedule.warmup_epochs`, and cap `--config.schedule.base_rate`. Or keep the batch size and
spread it over more devices: the table shows where that stops being faster. None of this was tried
here.
"""


def render(found: Mapping[str, Counts], base: Any, command: str) -> str:
    """Return the page.

    Args:
        found: model -> counts, from small to large.
        base: the config of any released model.
        command: the command that writes it.
    """
    small, large = next(iter(found)), list(found)[-1]
    first = found[small]
    on_h100 = time_of(first, 256, "H100")
    large_efficiency = [
        time_of(found[large], 256, chip).efficiency(overlap=False) for chip in CLUSTERS
    ]
    gain, where = _gain_of_half_width(found)
    return _PAGE.format(
        command=command,
        small=_title(small),
        large=_title(large),
        small_gradients=first["all_reduces"][GRADIENTS]["bytes"] / 1e6,
        small_statistics=first["all_reduces"][STATISTICS]["bytes"] / 1e6,
        small_rounds=first["all_reduces"][STATISTICS]["arrays"] // 2,
        large_gradients=found[large]["all_reduces"][GRADIENTS]["bytes"] / 1e6,
        wait_statistics=1e3 * on_h100.statistics,
        wait_gradients=1e3 * on_h100.gradients,
        work=1e3 * on_h100.compute,
        as_it_is=on_h100.efficiency(overlap=False),
        grouped=_on_256(first, Setup(group=8)),
        half=_on_256(first, Setup(gradient_width=2)),
        accumulated=_on_256(first, Setup(accumulate=4)),
        sixteen=_on_256(first, Setup(), 16),
        large_low=min(large_efficiency),
        large_high=max(large_efficiency),
        half_gain=gain,
        half_where=where,
        # Mean and variance; a step sums two arrays in either direction.
        running=first["all_reduces"][STATISTICS]["bytes"] / 2 / 1e6,
        counted=_join(
            count_tables.exchange_table(found),
            count_tables.checked_table(found),
            count_tables.work_table(found),
            count_tables.memory_table(found),
            count_tables.largest_batch_table(found),
        ),
        modelled=_join(
            time_tables.constants_table(),
            *(
                time_tables.efficiency_table(found, chip, batch_size)
                for batch_size in (4, 8)
                for chip in CLUSTERS
            ),
            time_tables.parts_table(found, 256),
        ),
        changes=_join(
            *(
                time_tables.changes_table(found[name], name)
                for name in dict.fromkeys((small, large))
            )
        ),
        batches=_join(
            time_tables.rate_table(base),
            time_tables.fixed_batch_table({name: found[name] for name in (small, large)}),
        ),
    )


def _on_256(counts: Counts, setup: Setup, batch_size: int = 4) -> float:
    return time_of(counts, 256, "H100", batch_size, setup=setup).efficiency(overlap=False)


def _gain_of_half_width(found: Mapping[str, Counts]) -> tuple[float, str]:
    """Return the largest gain in efficiency from gradients of half the size, and where it is."""
    gains = []
    for name, counts in found.items():
        for chip in CLUSTERS:
            for devices in time_tables.DEVICES:
                whole, half = (
                    time_of(counts, devices, chip, setup=Setup(gradient_width=width))
                    for width in (4, 2)
                )
                gain = half.efficiency(overlap=False) - whole.efficiency(overlap=False)
                gains.append((gain, f"{_title(name)} on {devices} {chip}"))
    return max(gains)


def _join(*tables: Table) -> str:
    return "\n".join(re.sub("^# ", "### ", to_markdown(table)) for table in tables)


def _title(name: str) -> str:
    return name.replace("d", "D", 1)
