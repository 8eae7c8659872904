"""How the processes of one run find each other, and how they end."""

import os
import re
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import jax

from bifpn_jax.errors import UserError

# Launchers that state the number of processes and the index of this one, but that JAX does not
# detect: Open MPI 5, and MPICH and its derivatives.
_COUNT_AND_ID = (("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"), ("PMI_SIZE", "PMI_RANK"))
_POD_INDEX = "JOB_COMPLETION_INDEX"

_NEEDED = "coordinator_address=HOST:PORT, process_id=N and process_count=N"
_ALONE = "process_count=1 trains in this process alone"
_PEER_IS_GONE = re.compile(
    r"gloo|nccl|rccl|closed by peer|coordination ?service|heartbeat", re.IGNORECASE
)
_FAILED = 2

# How much later process 0 exits: the service that it hosts takes the others down with it.
_LAST_SECONDS = 5.0


def start(
    coordinator_address: str | None = None,
    process_id: int | None = None,
    process_count: int | None = None,
    *,
    start_timeout: int = 300,
    heartbeat_timeout: int = 100,
    spelled: Callable[[str], str] = str,
) -> None:
    """Join the other processes of this run, if there are any; call it before any computation.

    Missing arguments are taken from the scheduler's environment, as JAX detects it: Slurm, Cloud
    TPU, Kubernetes (with the package `kubernetes`) and Open MPI up to 4. If the others do not join
    in time, the process exits with a one-line error and status 2.

    Args:
        coordinator_address: host and port of process 0, which listens there.
        process_id: index of this process, from 0.
        process_count: number of processes; with 1, the scheduler is ignored.
        start_timeout: seconds to wait for the others.
        heartbeat_timeout: seconds after which a silent process counts as dead, and all others exit.
        spelled: replaces names of arguments in the error by the caller's names for them.

    Raises:
        UserError: the arguments do not fit together, or the environment is incomplete.
    """
    _check(coordinator_address, process_id, process_count)
    if process_count == 1:
        return
    seen_count, seen_id = _count_and_id_of_environment()
    count = process_count if process_count is not None else seen_count
    number = process_id if process_id is not None else seen_id
    if count == 1:
        return
    address = coordinator_address or os.environ.get("JAX_COORDINATOR_ADDRESS")
    asked = any(value is not None for value in (address, process_id, process_count))
    where = address or "the address from the scheduler"
    _check(address, number, count)
    if address is not None and number == 0:
        _check_free(address)
    late = (
        f"{count or 'the'} processes of this run did not find each other at {where} within "
        f"{start_timeout} s: start all of them, with an address that each can reach, or wait "
        "longer, start_timeout=SECONDS."
    )
    try:
        with warnings.catch_warnings(), _deadline(start_timeout, spelled(late)):
            # JAX warns in every pod without the package `kubernetes`.
            warnings.filterwarnings("ignore", message=r"Kubernetes environment detected")
            jax.distributed.initialize(
                address,
                count,
                number,
                # Later than our own deadline, because JAX aborts the process with a stack trace.
                initialization_timeout=start_timeout + 60,
                heartbeat_timeout_seconds=heartbeat_timeout,
                shutdown_timeout_seconds=heartbeat_timeout,
            )
    except Exception as error:  # A scheduler's environment can be incomplete in any way.
        if isinstance(error, ValueError) and "defined" in str(error):
            _check_alone(asked, count)
            return
        raise UserError(
            f"cannot find the other processes ({type(error).__name__}: {_first_line(error)}): "
            f"give {_NEEDED}; {_ALONE}."
        ) from error


def peer_is_gone(error: BaseException) -> bool:
    """Whether an error comes from a computation whose other processes have ended."""
    # JAX raises a ValueError for some of XLA's statuses.
    of_xla = isinstance(error, RuntimeError | ValueError)
    return several() and of_xla and _PEER_IS_GONE.search(str(error)) is not None


def several() -> bool:
    """Whether this process has joined others."""
    return jax.distributed.is_initialized()


def leave(status: int) -> NoReturn:
    """End the process; if there are several, without a proper exit, which could wait forever."""
    if several():
        sys.stdout.flush()
        sys.stderr.flush()
        if jax.process_index() == 0:
            time.sleep(_LAST_SECONDS)
        os._exit(status)
    sys.exit(status)


def _check(address: str | None, number: int | None, count: int | None) -> None:
    """Raise a UserError for arguments that can never be right."""
    if address is not None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise UserError(
                f"coordinator_address={address}: give the host and a free port of process 0, "
                "HOST:PORT."
            )
    if count is not None and count < 1:
        raise UserError(f"process_count={count}: give the number of processes, 1 or more.")
    if number is not None and (number < 0 or (count is not None and number >= count)):
        among = "0 or more" if count is None else f"0 to {count - 1}, process_count={count}"
        raise UserError(f"process_id={number}: processes are numbered from {among}.")


def _check_free(address: str) -> None:
    """Raise a UserError if the port is in use, as JAX may then end in a segmentation fault."""
    port = int(address.rpartition(":")[2])
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        socket.create_server(("", port), family=family, dualstack_ipv6=both).close()
    except OSError as error:
        raise UserError(
            f"process 0 cannot listen at {address}: the port is in use or not allowed "
            f"({error.strerror}); take another one."
        ) from None


def _count_and_id_of_environment() -> tuple[int | None, int | None]:
    for count, number in _COUNT_AND_ID:
        if count in os.environ and number in os.environ:
            return int(os.environ[count]), int(os.environ[number])
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ and _POD_INDEX in os.environ
    return None, int(os.environ[_POD_INDEX]) if in_pod else None


def _check_alone(asked: bool, count: int | None) -> None:
    """Raise a UserError if anything indicates that there are other processes."""
    if asked:
        raise UserError(
            f"there is no scheduler to ask for the rest: give all of {_NEEDED}, or none of them."
        )
    if count is not None or _count_and_id_of_environment() != (None, None):
        raise UserError(
            "this is one of several processes, but the scheduler does not say where the first is: "
            f"give coordinator_address=HOST:PORT and process_count=N; {_ALONE}."
        )


@contextmanager
def _deadline(seconds: float, message: str) -> Iterator[None]:
    """Context that ends the process with a message if it takes longer; JAX itself waits in C++."""

    def end() -> None:
        print(f"error: {message}", file=sys.stderr, flush=True)
        os._exit(_FAILED)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")[:200]
