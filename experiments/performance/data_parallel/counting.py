"""Counts of the data-parallel step of released models, as JSON: {model: counts}."""

import time
from collections.abc import Sequence
from typing import Any

import jax

from bifpn_jax.models.cost import num_parameters
from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.models.model_checks import PARTS
from bifpn_jax.models.traffic import count_traffic
from experiments.paper import counts
from experiments.performance.data_parallel import all_reduces
from experiments.performance.data_parallel.program import kept_bytes, mapped_step, tree_bytes

DTYPE = "bfloat16"  # type of the activations
Counts = dict[str, Any]


def count_released(name: str, batch_sizes: Sequence[int]) -> Counts:
    """Return `count_step` of a released model with the outputs of the published COCO models."""
    config = counts.released_config(name, DTYPE)
    return count_step(config, counts.model_of(config, counts.COCO_OUTPUTS), batch_sizes)


def count_step(config: Any, model: EfficientDet, batch_sizes: Sequence[int]) -> Counts:
    """Count a step on the devices of this process, by tracing it, without compiling.

    Args:
        config: the config of the step.
        model: the model, as for one device.
        batch_sizes: images on each device, one entry of "work" for each.

    Returns:
        {"parameters", "state_bytes", "all_reduces": {kind: {"arrays", "bytes"}}, "chain",
        "lowered": {"arrays", "bytes"}, "kept_batch_size", "kept_bytes", "kept_bytes_remat",
        "work": {batch size: {"flops", "bytes"}}}, all on one device; "kept" for the first batch
        size.
    """
    found: Counts = {}
    for batch_size in batch_sizes:
        step, state, batch = mapped_step(config, model, batch_size)
        jaxpr = jax.make_jaxpr(step)(state, batch)
        traffic = count_traffic(jaxpr)
        if not found:
            by_kind = all_reduces.count_by_kind(jaxpr)
            found = {
                "parameters": num_parameters(state.params),
                "state_bytes": tree_bytes(state),
                "all_reduces": {kind: part._asdict() for kind, part in by_kind.items()},
                "chain": all_reduces.statistics_chain(jaxpr),
                "lowered": all_reduces.count_lowered(step.lower(state, batch).as_text())._asdict(),
                "kept_batch_size": batch_size,
                "kept_bytes": kept_bytes(config, model, batch_size),
                "kept_bytes_remat": kept_bytes(
                    config, model.clone(remat=",".join(PARTS)), batch_size
                ),
                "work": {},
            }
        found["work"][str(batch_size)] = {"flops": traffic.flops, "bytes": traffic.bytes}
    return found


def compile_released(name: str, batch_size: int) -> Counts:
    """Return `compile_step` of a released model."""
    config = counts.released_config(name, DTYPE)
    return compile_step(config, counts.model_of(config, counts.COCO_OUTPUTS), batch_size)


def compile_step(config: Any, model: EfficientDet, batch_size: int) -> Counts:
    """Return the exchanges and memory of the compiled step, on one device of this machine.

    Returns:
        {"batch_size", "platform", "seconds", "operations", "arrays", "bytes", "argument_bytes",
        "output_bytes", "temporary_bytes"}; "operations" are all-reduces.
    """
    step, state, batch = mapped_step(config, model, batch_size)
    lowered = step.lower(state, batch)
    start = time.monotonic()
    compiled = lowered.compile()
    seconds = time.monotonic() - start
    operations, exchanged = all_reduces.count_compiled(compiled.as_text())
    memory = compiled.memory_analysis()
    return {
        "batch_size": batch_size,
        "platform": jax.default_backend(),
        "seconds": round(seconds, 1),
        "operations": operations,
        **exchanged._asdict(),
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
    }
