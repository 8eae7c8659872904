"""Communication between the processes of one run; all of them must make each of these calls.

A single process gets back what it passed.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, zip_longest
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from bifpn_jax.errors import UserError


def gather(data: bytes) -> list[bytes]:
    """Return what each process passed, in the order of the processes."""
    if jax.process_count() == 1:
        return [data]
    lengths = multihost_utils.process_allgather(np.array(len(data), np.int32)).ravel()
    # A power of two, so that few sizes are compiled.
    padded = np.zeros(1 << int(lengths.max()).bit_length(), np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    rows = multihost_utils.process_allgather(padded)
    return [row[:length].tobytes() for row, length in zip(rows, lengths, strict=True)]


def gather_rows(rows: list[Any]) -> list[Any]:
    """Return the rows of all processes in one list; process p of N has its rows p, p + N, ….

    Args:
        rows: this process's rows, as JSON; tuples come back as lists. None may end a shorter share.
    """
    if jax.process_count() == 1:
        return rows
    shares = [json.loads(share) for share in gather(json.dumps(rows).encode())]
    return [row for row in chain.from_iterable(zip_longest(*shares)) if row is not None]


def from_primary(make: Callable[[], Any]) -> Any:
    """Return the result of `make` in process 0, as JSON; the others wait for it."""
    if jax.process_count() == 1:
        return make()
    return json.loads(gather(json.dumps(make()).encode() if jax.process_index() == 0 else b"")[0])


def add_up(count: int) -> int:
    """Return the sum over the processes, which must be below 2^31."""
    if jax.process_count() == 1:
        return count
    return int(multihost_utils.process_allgather(np.array(count, np.int32)).sum())


def same_everywhere(tree: Any) -> Any:
    """Return the arrays of process 0: those that others computed may differ in the last bits."""
    return tree if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(tree)


@contextmanager
def together() -> Iterator[None]:
    """Context in which a UserError of one process is raised in all, so that none waits forever."""
    if jax.process_count() == 1:
        yield
        return
    own = None
    try:
        yield
    except UserError as error:
        own = error
    messages = gather(str(own or "").encode())
    if own is not None:
        raise own
    for number, message in enumerate(messages):
        if message:
            raise UserError(f"process {number}: {message.decode()}")


@contextmanager
def primary_first() -> Iterator[None]:
    """Context that process 0 runs first and the others then: it creates what all of them read."""
    if jax.process_index() > 0:
        gather(b"")
    try:
        yield
    finally:
        if jax.process_index() == 0:
            gather(b"")


def reached_common_stop(step: int) -> bool:
    """Whether all processes stop after this step, because one of them got SIGTERM before it.

    Every process must call this at every step; JAX chooses a step that none of them has passed.
    """
    return multihost_utils.reached_preemption_sync_point(step)
