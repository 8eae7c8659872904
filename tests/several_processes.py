"""Starts several processes of a program on this machine, and waits for what becomes of them."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from quick_compilation import XLA_FLAGS

ROOT = Path(__file__).resolve().parents[1]


class Ended(NamedTuple):
    """How a process ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def said(self) -> list[str]:
        """Its own lines on stdout and stderr, without what gloo tells about connections."""
        lines = self.stdout.splitlines() + self.stderr.splitlines()
        return [
            line for line in lines if line and "[Gloo]" not in line and "peer ranks" not in line
        ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(words: list[str], devices: int = 1, **environment: object) -> subprocess.Popen:
    """Starts `python WORDS` on some CPU devices; no scheduler of this machine is seen."""
    schedulers = ("SLURM_", "OMPI_", "PMI_", "KUBERNETES_", "JAX_", "XLA_")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(schedulers)}
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env={
            **inherited,
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(devices),
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "XLA_FLAGS": XLA_FLAGS,
            **{name: str(value) for name, value in environment.items()},
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(processes: list[subprocess.Popen], timeout: float) -> list[Ended]:
    """Waits for all, and ends those that are left at the timeout."""
    end = time.monotonic() + timeout
    ended = []
    try:
        for process in processes:
            stdout, stderr = process.communicate(timeout=max(0.1, end - time.monotonic()))
            ended.append(Ended(process.returncode, stdout, stderr))
    finally:
        for process in processes:
            process.kill()
    return ended
