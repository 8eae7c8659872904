"""The module that knows about devices: replicates state, splits batches, runs steps on all.

The state is replicated, not stacked: it has the shapes of one device, so that it can be saved,
read and handed to `jit` as it is, and the first call is compiled once.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bifpn_jax.errors import UserError
from bifpn_jax.ops.batch_norm import replica_groups
from bifpn_jax.train import exchange
from bifpn_jax.train.step import TrainStep
from bifpn_jax.train.step_programs import StepPrograms

AXIS = "devices"


def device_count() -> int:
    """Devices over which a batch is split."""
    return jax.device_count()


def device_name() -> str:
    """The kind of device in words: "NVIDIA H100 80GB HBM3", "cpu, 2 cores"."""
    device = jax.devices()[0]
    cores = f", {os.cpu_count()} cores" if device.platform == "cpu" else ""
    return f"{device.device_kind}{cores}"


def process_index() -> int:
    """Number of this process, 0 for the one that writes the logs."""
    return jax.process_index()


def process_count() -> int:
    """Number of processes."""
    return jax.process_count()


def check_batch_size(batch_size: int, accumulate: int = 1) -> int:
    """The part of a global batch that this process reads.

    Args:
        batch_size: of all devices together.
        accumulate: parts into which every device cuts its own.

    Raises:
        UserError: the batch cannot be split evenly.
    """
    devices, processes = jax.device_count(), jax.process_count()
    if devices != jax.local_device_count() * processes:
        raise UserError(
            f"process {jax.process_index()} has {jax.local_device_count()} of {devices} devices: "
            f"give each of the {processes} processes as many."
        )
    if batch_size < 1 or batch_size % devices:
        fitting = max(batch_size // devices, 1) * devices
        raise UserError(
            f"batch size {batch_size} cannot be split over {devices} devices: set "
            f"batch_size={fitting} or another multiple of {devices}."
        )
    if batch_size // devices % accumulate:
        raise UserError(
            f"batch size {batch_size} gives each of {devices} devices {batch_size // devices} "
            f"images, which cannot be cut into {accumulate} parts: change batch_size={batch_size} "
            f"or accumulate={accumulate}."
        )
    return batch_size // processes


def check_batch_norm_group(group: int) -> None:
    """Raises a UserError if the devices cannot be split into groups of a size; 0 is for all."""
    if group:
        replica_groups(jax.device_count(), group)


def round_up_batch_size(batch_size: int) -> int:
    """The next batch size that all devices can share; for evaluation, where rows may be padding."""
    devices = jax.device_count()
    return -(-batch_size // devices) * devices


def replicate(tree: Any) -> Any:
    """Copies every array of `tree` to all local devices; the shapes stay."""
    return jax.device_put(tree, _sharding(PartitionSpec()))


def replicated_shapes(tree: Any) -> Any:
    """Shapes of a tree with the sharding of `replicate`, the target for restoring a checkpoint."""
    sharding = _sharding(PartitionSpec())
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


def one_copy(array: jax.Array) -> jax.Array:
    """What a checkpoint takes of a replicated array; of its copies orbax would slice one part each.

    On one host a copy of it, on several the array of all devices that the copies make up.
    """
    if not (array.is_fully_replicated and array.is_fully_addressable):
        return array
    if jax.process_count() == 1:
        return array.addressable_data(0)
    everywhere = NamedSharding(Mesh(np.array(jax.devices()), (AXIS,)), PartitionSpec())
    copies = {shard.device: shard.data for shard in array.addressable_shards}
    return jax.make_array_from_single_device_arrays(
        array.shape, everywhere, [copies[device] for device in jax.local_devices()]
    )


def split(batch: dict[str, np.ndarray], fields: tuple[str, ...]) -> dict[str, jax.Array]:
    """Sends `fields` of a host batch [B, …] to the devices as [devices, B / devices, …]."""
    local = jax.local_device_count()
    sharding = _sharding(PartitionSpec(AXIS))
    parts = {k: batch[k].reshape(local, -1, *batch[k].shape[1:]) for k in fields}
    return jax.device_put(parts, sharding)


def map_train_step(step: TrainStep) -> StepPrograms:
    """Runs (state, batch) -> (state, metrics) on all devices; state and metrics are replicated."""
    gradients = jax.pmap(step.gradients, AXIS, in_axes=(None, 0), out_axes=None)
    update = jax.jit(step.update, donate_argnums=0)
    # Processes that compile for longer than others are waited for: the connections of the first
    # call are given up after 30 s on CPUs.
    ready = None if jax.process_count() == 1 else lambda: exchange.gather(b"")
    return StepPrograms(
        gradients,
        update,
        found_shapes=lambda state: replicated_shapes(step.found_shapes(state)),
        ready=ready,
    )


def map_as_one_program(step: TrainStep) -> Callable[[Any, Any], tuple[Any, Any]]:
    """The same as a single program, of which a compiler's and a tracer's counts can be taken."""
    return jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=(None, None), donate_argnums=(0,))


def map_predict_step(step: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Runs (variables, batch) -> results [B, …] on all devices, each on its part of the batch."""
    mapped = jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=0)

    def run(variables: Any, batch: Any) -> Any:
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), mapped(variables, batch))

    return run


def prefetch(
    iterator: Any, fields: tuple[str, ...]
) -> Iterator[tuple[dict[str, jax.Array], dict[str, np.ndarray], Any]]:
    """Yields (batch on the devices, host batch, position after it), one batch ahead.

    Args:
        iterator: of host batches, with `get_state()`.
        fields: what goes to the devices.
    """

    def load() -> tuple[dict[str, jax.Array], dict[str, np.ndarray], Any] | None:
        batch = next(iterator, None)
        if batch is None:
            return None
        host = {k: v for k, v in batch.items() if k not in fields}
        return split(batch, fields), host, iterator.get_state()

    ahead = load()
    while ahead is not None:
        current, ahead = ahead, load()
        yield current


def _sharding(spec: PartitionSpec) -> NamedSharding:
    return NamedSharding(Mesh(np.array(jax.local_devices()), (AXIS,)), spec)


def check_devices() -> None:
    """Looks for the devices of the platform that JAX_PLATFORMS asks for, if it asks for one.

    Raises:
        UserError: there are none.
    """
    asked = jax.config.jax_platforms
    if not asked:
        return
    try:
        jax.devices()
    except Exception as error:  # An AssertionError without a word, or a RuntimeError.
        reason = str(error).partition(": ")[2].partition(" (set JAX_PLATFORMS")[0]
        jax.config.update("jax_platforms", None)
        there = dict.fromkeys([*(device.platform for device in jax.devices()), "cpu"])
        raise UserError(
            f"JAX_PLATFORMS={asked}: JAX finds no such device here"
            f"{f' ({reason})' if reason else ''}; it finds {', '.join(there)}. Leave JAX_PLATFORMS "
            'unset to take the best there is; for a GPU, pip install "jax[cuda12]" and its driver.'
        ) from error
