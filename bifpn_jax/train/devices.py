"""The module that knows about devices: replicates state, splits batches, runs steps on all devices.

The state is replicated, not stacked: it has the shapes of a single device, so that it can be saved,
read and passed to `jit` as it is, and the first call is compiled once.
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
    """Return the number of devices over which a batch is split."""
    return jax.device_count()


def device_name() -> str:
    """Return the kind of device in words: "NVIDIA H100 80GB HBM3", "cpu, 2 cores"."""
    device = jax.devices()[0]
    cores = f", {os.cpu_count()} cores" if device.platform == "cpu" else ""
    return f"{device.device_kind}{cores}"


def process_index() -> int:
    """Return the index of this process, 0 for the one that writes the logs."""
    return jax.process_index()


def process_count() -> int:
    """Return the number of processes."""
    return jax.process_count()


def check_batch_size(batch_size: int, accumulate: int = 1) -> int:
    """Return the number of images of a global batch that this process reads.

    Args:
        batch_size: the global batch size.
        accumulate: number of parts into which every device splits its share.

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
    """Raise a UserError if the devices cannot be split into groups of this size; 0 means all."""
    if group:
        replica_groups(jax.device_count(), group)


def round_up_batch_size(batch_size: int) -> int:
    """Round up to a batch size that all devices can share; for evaluation, which may pad rows."""
    devices = jax.device_count()
    return -(-batch_size // devices) * devices


def replicate(tree: Any) -> Any:
    """Copy every array of `tree` to all local devices; shapes do not change."""
    return jax.device_put(tree, _sharding(PartitionSpec()))


def replicated_shapes(tree: Any) -> Any:
    """Return shapes with the sharding of `replicate`, as a target for restoring a checkpoint."""
    sharding = _sharding(PartitionSpec())
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


def one_copy(array: jax.Array) -> jax.Array:
    """Return a replicated array in the form to save; orbax would save a slice of each copy.

    On one host this is one of the copies, on several the array over all devices.
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
    """Send `fields` of a host batch [B, …] to the devices as [devices, B / devices, …]."""
    local = jax.local_device_count()
    sharding = _sharding(PartitionSpec(AXIS))
    parts = {k: batch[k].reshape(local, -1, *batch[k].shape[1:]) for k in fields}
    return jax.device_put(parts, sharding)


def map_train_step(step: TrainStep) -> StepPrograms:
    """Map (state, batch) -> (state, metrics) to all devices; state and metrics are replicated."""
    gradients = jax.pmap(step.gradients, AXIS, in_axes=(None, 0), out_axes=None)
    update = jax.jit(step.update, donate_argnums=0)
    # Wait for processes that compile for longer: the connections of the first call time out after
    # 30 s on CPUs.
    ready = None if jax.process_count() == 1 else lambda: exchange.gather(b"")
    return StepPrograms(
        gradients,
        update,
        found_shapes=lambda state: replicated_shapes(step.found_shapes(state)),
        ready=ready,
    )


def map_as_one_program(step: TrainStep) -> Callable[[Any, Any], tuple[Any, Any]]:
    """Like `map_train_step`, but as a single program, whose operations can be counted."""
    return jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=(None, None), donate_argnums=(0,))


def map_predict_step(step: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Map (variables, batch) -> results [B, …] to all devices, each with a part of the batch."""
    mapped = jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=0)

    def run(variables: Any, batch: Any) -> Any:
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), mapped(variables, batch))

    return run


def prefetch(
    iterator: Any, fields: tuple[str, ...]
) -> Iterator[tuple[dict[str, jax.Array], dict[str, np.ndarray], Any]]:
    """Yield (batch on the devices, host batch, position after it), one batch ahead.

    Args:
        iterator: iterator of host batches, with `get_state()`.
        fields: the fields to send to the devices.
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
    """Check that the devices requested by JAX_PLATFORMS exist, if it is set.

    Raises:
        UserError: there are none.
    """
    asked = jax.config.jax_platforms
    if not asked:
        return
    try:
        jax.devices()
    except Exception as error:  # An AssertionError without a message, or a RuntimeError.
        reason = str(error).partition(": ")[2].partition(" (set JAX_PLATFORMS")[0]
        jax.config.update("jax_platforms", None)
        there = dict.fromkeys([*(device.platform for device in jax.devices()), "cpu"])
        raise UserError(
            f"JAX_PLATFORMS={asked}: JAX finds no such device here"
            f"{f' ({reason})' if reason else ''}; it finds {', '.join(there)}. Leave JAX_PLATFORMS "
            'unset to take the best there is; for a GPU, pip install "jax[cuda12]" and its driver.'
        ) from error
