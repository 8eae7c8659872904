"""How a process keeps memory: the C library's, and the objects of Python.

A step's arrays come to more than a gigabyte. glibc by itself asks the system for such blocks and
gives them back after every step, and the system then clears every page of 4 KiB anew, which on a
CPU is a good part of the step's time. With pages of 2 MiB that costs little. Where the system has
none, a process can be told to keep what it has freed.
"""

import ctypes
import gc
import os
import re
import sys
from pathlib import Path

_HUGE_PAGES = "glibc.malloc.hugetlb=1"
_SYSTEM_POLICY = Path("/sys/kernel/mm/transparent_hugepage/enabled")

# Parameters of glibc's mallopt, from <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def restart_with_huge_pages() -> None:
    """Starts ``python -m …`` once more, as the same process, with memory in huge pages.

    glibc reads the setting from GLIBC_TUNABLES when a process starts. Nothing happens where Python
    was started otherwise, where `is_chosen`, where glibc is older than 2.35, and where the system
    gives huge pages to nobody, or to everybody unasked.
    """
    # While Python looks for the module of -m, and imports its package, this is the name.
    is_command = sys.argv[0] == "-m" and bool(sys.executable)
    if is_command and not is_chosen() and _glibc_version() >= (2, 35) and _policy() == "madvise":
        environment = os.environ | {"GLIBC_TUNABLES": _HUGE_PAGES}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def keep_freed_memory() -> bool:
    """Makes this process keep what it frees; does so before other threads start, or has no effect.

    All blocks then come from one heap that grows by 64 MiB and never shrinks; threads that take
    memory wait for each other. Nothing is changed where `is_chosen`, where the system gives huge
    pages to everybody, and where the C library is not glibc.

    Returns:
        Whether the settings are in force.
    """
    if is_chosen() or not _glibc_version() or _policy() == "always":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 2**26))
    return all(mallopt(name, value) for name, value in settings)


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
