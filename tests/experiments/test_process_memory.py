"""What is freed is kept, a second large block costs no page faults; garbage waits for a while."""

import gc
import os
import subprocess
import sys

import pytest

from experiments.process_memory import collect_garbage_rarely

SCRIPT = """
import resource, sys, threading
from experiments.process_memory import keep_freed_memory

print(keep_freed_memory())
import numpy as np

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**25, np.float32).sum()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def count():
    print(faults(), faults())

thread = threading.Thread(target=count)
thread.start()
thread.join()
"""


def run(**environment):
    """(whether it is in force, page faults of a first and of a second block of 128 MiB)."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUN"))}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(
        command, env=kept | environment, capture_output=True, text=True, check=True
    )
    in_force, first, second = done.stdout.split()
    return in_force == "True", int(first), int(second)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_a_second_block_takes_the_pages_of_the_first():
    in_force, first, second = run()
    assert in_force
    assert first > 60  # 64 pages of 2 MiB, where the system has them
    assert second < first / 10


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_what_the_environment_chose_stays():
    in_force, first, second = run(MALLOC_ARENA_MAX="2")
    assert not in_force
    assert second > first / 2


def test_garbage_is_collected_rarely_but_is():
    before = gc.get_threshold()
    try:
        collect_garbage_rarely()
        found = gc.get_stats()[0]["collections"]
        for _ in range(100_000):
            cycle = []
            cycle.append(cycle)
        assert 1 <= gc.get_stats()[0]["collections"] - found <= 10
    finally:
        gc.set_threshold(*before)
