"""How a process keeps memory: the C library's, and the objects of Python.

A step's arrays come to more than a gigabyte. glibc by itself asks the system for such blocks and
gives them back after every step, and the system then clears every page anew, which on a CPU is a
good part of the step's time. Told to keep them, it does so once.
"""

import ctypes
import gc
import os
import sys

# Parameters of glibc's mallopt, from <malloc.h>.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> bool:
    """Makes this process keep what it frees; does so before other threads start, or has no effect.

    All blocks then come from one heap that grows by 64 MiB and never shrinks. Where the environment
    says how memory is to be kept (MALLOC_…, GLIBC_TUNABLES, or another allocator in LD_PRELOAD), or
    the C library is not glibc, nothing is changed.

    Returns:
        Whether the settings are in force.
    """
    chosen = any(name.startswith("MALLOC_") for name in os.environ)
    if chosen or "GLIBC_TUNABLES" in os.environ or "LD_PRELOAD" in os.environ:
        return False
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 2**26))
    return all(mallopt(name, value) for name, value in settings)


def collect_garbage_rarely() -> None:
    """Makes Python look for unreachable cycles at every 20,000 new objects, not at every 700.

    A model that is traced is millions of objects, nearly all of which stay; going through them time
    and again is a fifth of the time to trace. What has no cycles is freed at once as ever.
    """
    gc.set_threshold(20_000)
