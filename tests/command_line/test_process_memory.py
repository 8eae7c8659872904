"""Large blocks cost few page faults, by huge pages or kept; garbage waits for a while."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bifpn_jax.command_line import process_memory
from bifpn_jax.command_line.process_memory import collect_garbage_rarely

ROOT = Path(__file__).resolve().parents[2]
LINUX = sys.platform.startswith("linux")
# What a command finds on this system.
HUGE_PAGES = process_memory._glibc_version() >= (2, 35) and process_memory._policy() == "madvise"

SCRIPT = """
import resource, sys, threading
from bifpn_jax.command_line.process_memory import keep_freed_memory

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


# A package whose import restarts it, as that of `experiments` does.
PACKAGE = """
from bifpn_jax.command_line.process_memory import restart_with_huge_pages

restart_with_huge_pages()
"""
COMMAND = """
import json, os, resource, sys
import numpy as np

before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**25, np.float32).sum()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
tunables = os.environ.get("GLIBC_TUNABLES")
print(json.dumps([os.getpid(), tunables, sys.argv[1:], sys.warnoptions, faults]))
"""


def python(*words, cwd=ROOT, **environment):
    """(process number, stdout) of a Python whose memory nothing in the environment is about."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUN"))}
    kept["PYTHONPATH"] = str(ROOT)
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=cwd,
        env=kept | environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        out = process.stdout.read()
    assert process.returncode == 0
    return process.pid, out


def run(**environment):
    """(whether it is in force, page faults of a first and of a second block of 128 MiB)."""
    _, out = python("-c", SCRIPT, **environment)
    in_force, first, second = out.split()
    return in_force == "True", int(first), int(second)


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "restarting"
    folder.mkdir()
    (folder / "__init__.py").write_text(PACKAGE)
    (folder / "show.py").write_text(COMMAND)
    return tmp_path


@pytest.mark.skipif(not LINUX, reason="glibc's settings")
def test_a_command_starts_again_with_huge_pages(package):
    words = ("-W", "error", "-m", "restarting.show", "--name=two words", "")
    pid, out = python(*words, cwd=package)
    same_pid, tunables, arguments, warnings, faults = json.loads(out)
    assert same_pid == pid
    assert arguments == ["--name=two words", ""]
    assert warnings == ["error"]
    assert tunables == (process_memory.tunables() if HUGE_PAGES else None)
    if HUGE_PAGES:
        assert faults < 2000  # of 32,768 pages of 4 KiB


@pytest.mark.skipif(not LINUX, reason="glibc's settings")
@pytest.mark.parametrize(
    "chosen", [{"GLIBC_TUNABLES": ""}, {"MALLOC_ARENA_MAX": "2"}, {"LD_PRELOAD": ""}]
)
def test_a_command_leaves_a_choice_of_the_environment_alone(package, chosen):
    _, tunables, *_ = json.loads(python("-m", "restarting.show", cwd=package, **chosen)[1])
    assert tunables == chosen.get("GLIBC_TUNABLES")


def test_who_only_imports_the_commands_is_not_restarted():
    code = "import os, experiments; print(os.environ.get('GLIBC_TUNABLES'))"
    assert python("-c", code)[1].strip() == "None"


@pytest.mark.parametrize(("cores", "one"), [(1, True), (8, True), (9, False), (None, True)])
def test_few_cores_share_one_heap(monkeypatch, cores, one):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert process_memory.tunables().endswith(":glibc.malloc.arena_max=1") == one


@pytest.mark.parametrize(
    ("content", "policy"),
    [
        ("always [madvise] never", "madvise"),
        ("[always] madvise never", "always"),
        ("strange", "never"),
        (None, "never"),
    ],
)
def test_the_policy_of_the_system(tmp_path, monkeypatch, content, policy):
    file = tmp_path / "enabled"
    if content is not None:
        file.write_text(content)
    monkeypatch.setattr(process_memory, "_SYSTEM_POLICY", file)
    assert process_memory._policy() == policy


@pytest.mark.skipif(
    not LINUX or not process_memory._has_one_heap(), reason="the one heap of glibc on few cores"
)
def test_a_second_block_takes_the_pages_of_the_first():
    in_force, first, second = run()
    assert in_force
    assert first > 60  # 64 pages of 2 MiB, where the system has them
    assert second < first / 10


@pytest.mark.skipif(not LINUX, reason="glibc's settings")
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
