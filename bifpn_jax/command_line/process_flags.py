"""The flags that identify one of several processes."""

from absl import flags

from bifpn_jax.command_line.flag_names import flags_of_names, in_flags
from bifpn_jax.train import processes

# Arguments of `processes.start`, and their flags.
FLAG_NAMES = {
    name: name
    for name in (
        "coordinator_address",
        "process_id",
        "process_count",
        "start_timeout",
        "heartbeat_timeout",
    )
}


def define_process_flags() -> None:
    """Define ``--coordinator_address``, ``--process_id``, ``--process_count`` and the timeouts."""
    flags.DEFINE_string(
        "coordinator_address",
        None,
        "HOST:PORT where process 0 of several listens. By default from the scheduler.",
    )
    flags.DEFINE_integer("process_id", None, "Index of this process, from 0.")
    flags.DEFINE_integer("process_count", None, "Number of processes; 1 ignores the scheduler.")
    flags.DEFINE_integer(
        "start_timeout", 300, "Seconds to wait for the other processes.", lower_bound=1
    )
    flags.DEFINE_integer(
        "heartbeat_timeout",
        100,
        "Seconds after which a silent process counts as dead, and all others exit.",
        lower_bound=1,
    )


def start_from_flags() -> None:
    """Join the other processes; must be called before any computation.

    Raises:
        UserError: the flags do not fit together, or are incomplete.
    """
    given = flags.FLAGS
    processes.start(
        given.coordinator_address,
        given.process_id,
        given.process_count,
        start_timeout=given.start_timeout,
        heartbeat_timeout=given.heartbeat_timeout,
        spelled=lambda message: in_flags(message, flags_of_names(FLAG_NAMES)),
    )
