"""A disk that is full: one line, and what was complete stays."""

import errno
import subprocess

import pytest
from several_processes import finish, start
from small_run import checkpoint_steps, words

from bifpn_jax.command_line.disk_space import full_disk


def test_errors_of_the_system():
    assert full_disk(OSError(errno.ENOSPC, "No space left on device", "/a/log")) == "/a/log"
    assert full_disk(OSError(errno.EDQUOT, "Disk quota exceeded")) == "output"
    assert full_disk(OSError(errno.EACCES, "Permission denied", "/a/log")) is None
    assert full_disk(ValueError("No space")) is None


def test_an_error_that_another_one_led_to():
    text = 'OCDBT database at local file "/a/1.tmp/": Failed to write: No space left on device [28]'
    error = RuntimeError("saving failed")
    error.__cause__ = ValueError(text)
    assert full_disk(error) == "/a/1.tmp/"


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 24 MB of its own, and a function that sets its size."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True
        )
        if made.returncode:
            pytest.skip(f"cannot mount a small disk: {made.stderr.decode().strip()}")

    mount("size=24m")
    yield folder, lambda size: mount(f"remount,size={size}")
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_run_on_a_full_disk_goes_on_when_there_is_space(small_disk, tmp_path):
    disk, resize = small_disk

    def run():
        more = ("--config.checkpoint.every_epochs=0.2", "--config.checkpoint.keep_latest=10")
        (ended,) = finish(
            [start(words(disk / "run", tmp_path, *more), JAX_COMPILATION_CACHE_DIR=tmp_path)], 900
        )
        return ended

    ended = run()
    kept = checkpoint_steps(disk / "run")
    assert ended.status == 2, ended
    assert [line for line in ended.said if "error" in line.lower()] == ended.said[-1:]
    assert "no space is left on this disk; free some" in ended.said[-1]
    assert "Traceback" not in ended.stderr
    assert 0 < len(kept) < 10
    resize("200m")
    ended = run()
    assert ended.status == 0, ended
    assert f"steps {kept[-1]} to 10" in ended.stderr
    assert (disk / "run" / "finished.json").exists()
