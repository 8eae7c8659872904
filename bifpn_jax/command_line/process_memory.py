"""How a process keeps memory: in the C library and in Python's garbage collector.

The arrays of a step take more than a gigabyte. By default glibc gets such blocks from the system
and returns them after every step, and the system clears every page of 4 KiB again, which on a CPU
is a good part of the step's time. So glibc is told to keep freed memory, in pages of 2 MiB if the
system has them.
"""

import ctypes
import gc
import os
import re
import sys
from pathlib import Path

# Up to this many cores all threads share one heap, because glibc returns the large blocks of other
# heaps; but on more cores threads would wait for each other.
_CORES_OF_ONE_HEAP = 8
_HEAP_GROWS_BY = 2**26
_SYSTEM_POLICY = Path("/sys/kernel/mm/transparent_hugepage/enabled")

# Parameters of glibc's mallopt, from <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def restart_with_huge_pages() -> None:
    """Restart this program in the same process, with freed memory kept in huge pages.

    glibc reads the settings from GLIBC_TUNABLES when a process starts. Nothing happens if
    `is_chosen`, if glibc is older than 2.35, or if the system never or always gives huge pages.
    For programs only: importing a module must not replace the process.
    """
    chosen = not sys.executable or is_chosen()
    if not chosen and _glibc_version() >= (2, 35) and _policy() == "madvise":
        environment = os.environ | {"GLIBC_TUNABLES": tunables()}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def keep_freed_memory() -> bool:
    """Make this process keep freed memory; must be called before other threads start.

    Its heap then grows by 64 MiB and never shrinks. Nothing is changed if `is_chosen`, or if the C
    library is not glibc.

    Returns:
        Whether the settings are in effect.
    """
    if is_chosen() or not _glibc_version():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: _HEAP_GROWS_BY}
    if _has_one_heap():
        settings[_ARENA_MAX] = 1
    return all(mallopt(name, value) for name, value in settings.items())


def tunables() -> str:
    """Return the value of GLIBC_TUNABLES with which freed memory is kept in huge pages."""
    settings = {"hugetlb": 1, "mmap_max": 0, "trim_threshold": 2**64 - 1, "top_pad": _HEAP_GROWS_BY}
    if _has_one_heap():
        settings["arena_max"] = 1
    return ":".join(f"glibc.malloc.{name}={value}" for name, value in settings.items())


def is_chosen() -> bool:
    """Whether the environment already configures memory allocation.

    It does so with MALLOC_… or GLIBC_TUNABLES, even if empty, or with another allocator in
    LD_PRELOAD.
    """
    names = ("GLIBC_TUNABLES", "LD_PRELOAD")
    return any(name in names or name.startswith("MALLOC_") for name in os.environ)


def collect_garbage_rarely() -> None:
    """Make Python look for unreachable cycles every 20,000 new objects instead of every 700.

    Tracing a model makes millions of objects, nearly all of which stay; scanning them repeatedly
    takes a fifth of the tracing time. Objects without cycles are still freed at once.
    """
    gc.set_threshold(20_000)


def _has_one_heap() -> bool:
    return (os.cpu_count() or 1) <= _CORES_OF_ONE_HEAP


def _glibc_version() -> tuple[int, ...]:
    """Return the version, such as (2, 36), or () with another C library."""
    if not sys.platform.startswith("linux"):
        return ()
    name = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else None
    version = re.fullmatch(r"glibc (\d+)\.(\d+).*", name or "")
    return tuple(map(int, version.groups())) if version else ()


def _policy() -> str:
    """Return the system's policy for huge pages: always, madvise, never."""
    if not _SYSTEM_POLICY.exists():
        return "never"
    chosen = re.search(r"\[(\w+)\]", _SYSTEM_POLICY.read_text())
    return chosen[1] if chosen else "never"
