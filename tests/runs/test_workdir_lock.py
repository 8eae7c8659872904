import fcntl
import os
import signal
import socket
import subprocess
import sys

import pytest
from several_processes import ROOT

from bifpn_jax.errors import UserError
from bifpn_jax.runs.workdir_lock import LOCK_FILE, check_shared, lock_workdir

HOLD = (
    "import sys, time; from bifpn_jax.runs.workdir_lock import lock_workdir\n"
    "with lock_workdir(sys.argv[1]): print('held', flush=True); time.sleep(300)"
)


@pytest.fixture
def holder(tmp_path):
    """Another process that is at work in the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_and_told_who_is_there(holder, tmp_path):
    with pytest.raises(UserError) as error, lock_workdir(tmp_path):
        pytest.fail("two hold it")
    message = str(error.value)
    assert message.startswith(
        f"{tmp_path}: process {holder.pid} on {socket.gethostname()} (since 20"
    )
    assert message.endswith("is training here; wait for it or stop it, or take another workdir.")
    assert "\n" not in message
    assert (tmp_path / LOCK_FILE).exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_crash_is_no_trap(holder, tmp_path, number):
    holder.send_signal(number)
    holder.wait()
    assert str(holder.pid) in (tmp_path / LOCK_FILE).read_text()
    with lock_workdir(tmp_path) as said:
        assert (tmp_path / LOCK_FILE).read_text() == said
        assert said.startswith(f"process {os.getpid()} on ")
    assert not (tmp_path / LOCK_FILE).exists()


def test_it_is_free_again_after_an_error_and_for_the_next_one(tmp_path):
    workdir = tmp_path / "new" / "run"
    with pytest.raises(ValueError, match="x"), lock_workdir(workdir):
        raise ValueError("x")
    with lock_workdir(workdir):
        with pytest.raises(UserError, match=f"process {os.getpid()} on "), lock_workdir(workdir):
            pass
        assert (workdir / LOCK_FILE).exists()
    assert os.listdir(workdir) == []


def test_a_file_that_its_holder_removes_in_between_is_not_enough(tmp_path, monkeypatch):
    """The second opens the file, the first removes it and leaves, the second locks it."""
    flock, calls = fcntl.flock, []

    def remove_first(file, flags):
        calls.append(file)
        if len(calls) == 1:
            (tmp_path / LOCK_FILE).unlink()
        flock(file, flags)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with lock_workdir(tmp_path):
        assert len(calls) == 2
        monkeypatch.setattr(fcntl, "flock", flock)
        with pytest.raises(UserError, match="is training here"), lock_workdir(tmp_path):
            pass


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", fail)
    with lock_workdir(tmp_path):
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot make or write this folder"):
        lock_workdir(tmp_path / "file" / "run").__enter__()


def test_hosts_that_do_not_share_the_folder(tmp_path):
    with lock_workdir(tmp_path / "here") as said:
        check_shared(tmp_path / "here", said, seconds=0)
        with pytest.raises(UserError, match="is not the same folder on") as error:
            check_shared(tmp_path / "there", said, seconds=0.3)
    assert "put the workdir on a file system that all hosts share" in str(error.value)
