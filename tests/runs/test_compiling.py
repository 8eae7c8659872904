"""The command while its first step compiles: it says so, and a signal ends it at once."""

import signal
import time

import pytest
from several_processes import finish, start
from small_run import words


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_first_step_compiles(number, tmp_path):
    workdir = tmp_path / "run"
    process = start(words(workdir, tmp_path, "--process_count=1"))
    said = []
    for line in process.stdout:
        said.append(line)
        if "compiling the training step" in line:
            break
    assert said[:2] == ["loading the program …\n", "reading the data …\n"]
    time.sleep(2)
    began = time.monotonic()
    process.send_signal(number)
    (ended,) = finish([process], 60)
    assert time.monotonic() - began < 20
    assert ended.status == 75, ended
    assert ended.stderr.splitlines()[-1] == (
        f"{number.name}: stopped before a step was made; nothing is lost, and the same command "
        "goes on"
    )
    assert "Traceback" not in ended.stderr
    assert not (workdir / "lock").exists()
    assert not list((workdir / "checkpoints" / "latest").iterdir())
