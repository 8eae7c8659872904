"""A lock that allows only one training run at a time in a workdir."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bifpn_jax.errors import UserError

LOCK_FILE = "lock"

_TRIED_SECONDS = 0.2
_SEEN_WITHIN_SECONDS = 30.0


@contextmanager
def lock_workdir(workdir: str | Path) -> Iterator[str]:
    """Lock a workdir, creating it if necessary, and yield the content of the lock file.

    The lock belongs to the open file, so it ends with the process, however that ends. A file left
    by a crash is taken over.

    Raises:
        UserError: another process holds it, or the folder cannot be made or written.
    """
    workdir = Path(workdir)
    path = workdir / LOCK_FILE
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise UserError(
            f"{workdir}: cannot make or write this folder ({error.strerror}); choose another "
            "workdir."
        ) from error
    # Retry for a while, because a holder may remove the file between its opening and locking.
    lock = FileLock(path, timeout=_TRIED_SECONDS, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"{workdir}: {_read(path) or 'another process'} is training here; wait for it or stop "
            "it, or take another workdir."
        ) from None
    except OSError:
        pass  # The file system has no locks.
    try:
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        holder = f"process {os.getpid()} on {socket.gethostname()} (since {now})"
        path.write_text(holder, encoding="utf-8")
        yield holder
    finally:
        # Removed while still locked, so that a process that has it open sees that it is gone.
        path.unlink(missing_ok=True)
        lock.release()


def check_shared(
    workdir: str | Path, holder: str, *, seconds: float = _SEEN_WITHIN_SECONDS
) -> None:
    """Raise a UserError unless this process sees the lock that the first process holds.

    Args:
        workdir: folder of the run.
        holder: what `lock_workdir` yielded in the first process.
        seconds: how long to retry; files appear late on network file systems.
    """
    path = Path(workdir) / LOCK_FILE
    end = time.monotonic() + seconds
    while _read(path) != holder:
        if time.monotonic() > end:
            raise UserError(
                f"{workdir} is not the same folder on {socket.gethostname()} and on the first "
                "host: put the workdir on a file system that all hosts share."
            )
        time.sleep(0.2)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
