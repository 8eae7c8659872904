"""How a process keeps memory: the C library's, and the objects of Python.

A step's arrays come to more than a gigabyte. glibc by itself asks the system for such blocks and
gives them back after every step, and the system then clears every page of 4 KiB anew, which on a
CPU is a good part of the step's time. So it is told to keep what is freed, in pages of 2 MiB where
the system has them.
"""

import ctypes
import gc
import os
import re
import sys
from pathlib import Path

# Up to so many cores all threads take memory from one heap. glibc gives the large blocks of the
# other heaps back; but on many cores threads would wait for each other.
_CORES_OF_ONE_HEAP = 8
_HEAP_GROWS_BY = 2**26
_SYSTEM_POLICY = Path("/sys/kernel/mm/transparent_hugepage/enabled")

# Parameters of glibc's mallopt, from <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def restart_with_huge_pages() -> None:
    """Starts this program once more, as the same process, with huge pages that it keeps.

    glibc reads the settings from GLIBC_TUNABLES when a process starts. Nothing happens where
    `is_chosen`, where glibc is older than 2.35, and where the system gives huge pages to nobody, or
    to everybody unasked. For programs alone: whoever imports a module keeps the process.
    """
    chosen = not sys.executable or is_chosen()
    if not chosen and _glibc_version() >= (2, 35) and _policy() == "madvise":
        environment = os.environ | {"GLIBC_TUNABLES": tunables()}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def keep_freed_memory() -> bool:
    """Makes this process keep what it frees; does so before other threads start, or has no effect.

    Its heap then grows by 64 MiB and never shrinks. Nothing is changed where `is_chosen`, and where
    the C library is not glibc.

    Returns:
        Whether the settings are in force.
    """
    if is_chosen() or not _glibc_version():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: _HEAP_GROWS_BY}
    if _has_one_heap():
        settings[_ARENA_MAX] = 1
    return all(mallopt(name, value) for name, value in settings.items())


def tunables() -> str:
    """The value of GLIBC_TUNABLES that a command starts with, to keep memory in huge pages."""
    settings = {"hugetlb": 1, "mmap_max": 0, "trim_threshold": 2**64 - 1, "top_pad": _HEAP_GROWS_BY}
    if _has_one_heap():
        settings["arena_max"] = 1
    return ":".join(f"glibc.malloc.{name}={value}" for name, value in settings.items())


def is_chosen() -> bool:
    """Whether the environment says how memory is to be kept.

    It does so with MALLOC_… or GLIBC_TUNABLES, also an empty one, or with an allocator of its own
    in LD_PRELOAD.
    """
    names = ("GLIBC_TUNABLES", "LD_PRELOAD")
    return any(name in names or name.startswith("MALLOC_") for name in os.environ)


def collect_garbage_rarely() -> None:
    """Makes Python look for unreachable cycles at every 20,000 new objects, not at every 700.

    A model that is traced is millions of objects, nearly all of which stay; going through them time
    and again is a fifth of the time to trace. What has no cycles is freed at once as ever.
    """
    gc.set_threshold(20_000)


def _has_one_heap() -> bool:
    return (os.cpu_count() or 1) <= _CORES_OF_ONE_HEAP


def _glibc_version() -> tuple[int, ...]:
    """(2, 36), or () with another C library."""
    if not sys.platform.startswith("linux"):
        return ()
    name = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else None
    version = re.fullmatch(r"glibc (\d+)\.(\d+).*", name or "")
    return tuple(map(int, version.groups())) if version else ()


def _policy() -> str:
    """The system's policy for huge pages: always, madvise, never."""
    if not _SYSTEM_POLICY.exists():
        return "never"
    chosen = re.search(r"\[(\w+)\]", _SYSTEM_POLICY.read_text())
    return chosen[1] if chosen else "never"
