"""Tables of the counts of the data-parallel step: exchanges, work and memory of a device."""

from collections.abc import Mapping

from experiments.paper.table import NOT_RUN, Column, Table
from experiments.performance.data_parallel.all_reduces import GRADIENTS, REST, STATISTICS
from experiments.performance.data_parallel.clusters import CLUSTERS
from experiments.performance.data_parallel.counting import Counts

Found = Mapping[str, Counts]


def exchange_table(found: Found) -> Table:
    """Return what the devices sum in one step, by kind."""
    rows = []
    for name, counts in found.items():
        sums = counts["all_reduces"]
        statistics = sums[STATISTICS]
        rows.append(
            (
                name,
                sums[GRADIENTS]["bytes"] / 1e6,
                f"{sums[GRADIENTS]['arrays']}",
                statistics["bytes"] / 1e6,
                f"{statistics['arrays'] // 4}",
                f"{statistics['arrays'] // 2}",
                f"{counts['chain']}",
                f"{sums[REST]['bytes']}",
            )
        )
    columns = [
        Column("model"),
        Column("gradients, MB", 2),
        Column("arrays of gradients"),
        Column("batch statistics, MB", 3),
        Column("batch norms"),
        Column("all-reduces of statistics"),
        Column("of them in a chain"),
        Column("rest, bytes"),
    ]
    return Table(
        "exchange",
        "Bytes that are summed over the devices in a step, per device",
        columns,
        rows,
        "Every batch norm sums two arrays of its channels in the forward pass and two in the "
        "backward pass, each pair in one all-reduce. The chain is the longest sequence in which "
        "each depends on the one before; the others could be combined with these. The rest is the "
        "normaliser of the loss and four metrics.",
    )


def checked_table(found: Found) -> Table:
    """Return the same total from the jaxpr, the lowered and the compiled program."""
    rows = []
    for name, counts in found.items():
        parts = counts["all_reduces"].values()
        counted = [sum(part[what] for part in parts) for what in ("arrays", "bytes")]
        lowered = [counts["lowered"][what] for what in ("arrays", "bytes")]
        ours = counts.get("compiled")
        compiled = [ours[what] if ours else None for what in ("arrays", "bytes", "operations")]
        numbers = [*counted, *lowered, *compiled]
        cells = [NOT_RUN if number is None else f"{number:,}" for number in numbers]
        rows.append((name, *cells, ours["seconds"] / 60 if ours else NOT_RUN))
    return Table(
        "checked",
        "All-reduces in the three forms of the program",
        [
            Column("model"),
            Column("jaxpr: arrays"),
            Column("jaxpr: bytes"),
            Column("lowered: arrays"),
            Column("lowered: bytes"),
            Column("compiled: arrays"),
            Column("compiled: bytes"),
            Column("compiled: operations"),
            Column("minutes to compile", 1),
        ],
        rows,
        "Lowered is StableHLO, compiled is the optimised HLO for CPU, with four images per device. "
        "The compiler combines gradients, and statistics that do not depend on one another, into "
        "operations of many arrays; the numbers of arrays and bytes stay the same. For models that "
        "were not compiled, the count is checked against the lowered program only.",
    )


def work_table(found: Found) -> Table:
    """Return operations and memory traffic of a step on one device."""
    sizes = sorted(next(iter(found.values()))["work"], key=int)
    rows = [
        (
            name,
            *(
                cell
                for size in sizes
                for work in [counts["work"][size]]
                for cell in (work["flops"] / 1e12, work["bytes"] / 1e9)
            ),
        )
        for name, counts in found.items()
    ]
    columns = [
        column
        for size in sizes
        for column in (Column(f"{size} images: T operations", 2), Column(f"{size} images: GB", 1))
    ]
    return Table(
        "work",
        "Operations and memory traffic of a step on one device",
        [Column("model"), *columns],
        rows,
        "Activations in bfloat16, native convolutions; `bifpn_jax.models.traffic` says what "
        "counts.",
    )


def memory_table(found: Found) -> Table:
    """Return the memory of a step on one device: by count, and by the compiler for CPU."""
    rows = []
    for name, counts in found.items():
        compiled = counts.get("compiled", {})
        rows.append(
            (
                name,
                counts["state_bytes"] / 1e6,
                counts["all_reduces"][GRADIENTS]["bytes"] / 1e6,
                counts["kept_bytes"] / 1e9,
                counts["kept_bytes_remat"] / 1e9,
                compiled["argument_bytes"] / 1e6 if compiled else NOT_RUN,
                compiled["output_bytes"] / 1e6 if compiled else NOT_RUN,
                compiled["temporary_bytes"] / 1e9 if compiled else NOT_RUN,
            )
        )
    images = next(iter(found.values()))["kept_batch_size"]
    return Table(
        "memory",
        f"Memory of a step on one device with {images} images",
        [
            Column("model"),
            Column("state, MB", 0),
            Column("gradients, MB", 0),
            Column("kept, GB", 2),
            Column("kept with remat, GB", 2),
            Column("CPU: arguments, MB", 0),
            Column("CPU: results, MB", 0),
            Column("CPU: temporaries, GB", 2),
        ],
        rows,
        "State: parameters, momentum, their average, and batch statistics twice. Kept: the "
        "arrays of the forward pass that automatic differentiation keeps for the backward pass, "
        "each counted once. With remat: "
        "`--config.model.remat=backbone,feature_network,heads`; the intermediates of the block, "
        "cell or head that the backward pass is in come on top. CPU: `memory_analysis()` of the "
        "program compiled for CPU; the results replace arguments. Its temporaries say little "
        "about accelerators: on CPU convolutions have another form, and bfloat16 is widened to "
        "float32.",
    )


def largest_batch_table(found: Found) -> Table:
    """Return how many images per device fit into the memory of an accelerator, by the count."""
    return Table(
        "largest_batch",
        "Most images per device, by the count of memory",
        [Column("model"), *(Column(name) for name in CLUSTERS)],
        [
            (name, *(f"{_largest_batch(counts, cluster.memory)}" for cluster in CLUSTERS.values()))
            for name, counts in found.items()
        ],
        "State, gradients and kept arrays, without remat, against all of the memory. Arrays within "
        "one pass, the compiler's scratch memory and the system are not accounted for: leave a "
        "margin.",
    )


def _largest_batch(counts: Counts, memory: float) -> int:
    gradients = counts["all_reduces"][GRADIENTS]["bytes"]
    per_image = counts["kept_bytes"] / counts["kept_batch_size"]
    return max(0, int((memory - counts["state_bytes"] - gradients) // per_image))
