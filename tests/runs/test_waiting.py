import ctypes
import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from bifpn_jax.runs.interruption import Interrupted, StopAtOnce
from bifpn_jax.runs.waiting import Durations, Waits, program_key

ROOT = Path(__file__).resolve().parents[2]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_result_and_the_error_are_those_of_the_function():
    waits = Waits(file=io.StringIO())
    assert waits.run("adding", lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        waits.run("dividing", lambda: 1 / 0)


def test_without_a_terminal_there_are_few_plain_lines():
    file = io.StringIO()
    Waits(file=file, every=0.5).run("compiling", lambda: time.sleep(1.3))
    lines = file.getvalue().splitlines()
    assert lines[0] == "compiling …"
    assert lines[-1].startswith("compiling: done in ")
    assert 1 <= len(lines) - 2 <= 3
    assert all(line.startswith("compiling: ") for line in lines[1:-1])


def test_what_is_over_at_once_is_one_line():
    file = io.StringIO()
    Waits(file=file).run("compiling", lambda: None)
    assert file.getvalue() == "compiling …\n"


def test_on_a_terminal_one_line_changes_and_is_cleared():
    file = Terminal()
    waits = Waits(file=file)
    waits.say("reading")
    waits.run("compiling", lambda: time.sleep(1.2))
    text = file.getvalue()
    assert text.count("\n") == 1
    assert "compiling: 1 s …" in text
    assert text.rpartition("\r")[2].startswith("\033[Kcompiling: done in 1 s")


def test_a_disabled_one_says_nothing():
    file = io.StringIO()
    waits = Waits(file=file, enabled=False)
    waits.say("reading")
    assert waits.run("compiling", lambda: 3) == 3
    assert file.getvalue() == ""


def test_only_the_first_call_is_waited_for():
    file, threads = io.StringIO(), []

    def note(value):
        threads.append(threading.current_thread())
        return value

    call = Waits(file=file).first("compiling", note)
    assert [call(1), call(2), call(3)] == [1, 2, 3]
    assert [thread is threading.main_thread() for thread in threads] == [False, True, True]
    assert file.getvalue().count("compiling …") == 1


def test_the_time_of_the_last_time_is_said(tmp_path):
    durations = Durations(tmp_path / "cache" / "seconds.json")
    assert durations.last("a") is None
    durations.note("a", 61.26)
    durations.note("b", 2.0)
    assert (durations.last("a"), durations.last("b")) == (61.3, 2.0)
    file = io.StringIO()
    Waits(file=file, durations=durations).run("compiling", lambda: None, key="a")
    assert file.getvalue() == "compiling (61 s the last time) …\n"
    assert durations.last("a") < 1


@pytest.mark.parametrize("content", ["", "[1]", '{"a": "x"}', "{"])
def test_a_damaged_file_of_durations_is_as_none(tmp_path, content):
    path = tmp_path / "seconds.json"
    path.write_text(content)
    assert Durations(path).last("a") is None
    Durations(path).note("a", 3.0)
    assert Durations(path).last("a") == 3.0


def test_durations_that_cannot_be_kept_are_no_error(tmp_path):
    (tmp_path / "file").touch()
    Durations(tmp_path / "file" / "seconds.json").note("a", 1.0)
    Durations(None).note("a", 1.0)
    assert Durations(None).last("a") is None


def test_the_file_of_durations_stays_small(tmp_path):
    durations = Durations(tmp_path / "seconds.json")
    for number in range(250):
        durations.note(str(number), 1.0)
    assert durations.last("249") == 1.0
    assert durations.last("10") is None


def test_the_key_of_a_program_is_of_its_facts():
    assert program_key(a=1, b=(2, 3)) == program_key(b=[2, 3], a=1)
    assert program_key(a=1) != program_key(a=2)


def test_a_stop_ends_the_wait_and_leaves_the_thread():
    end = threading.Event()
    waits = Waits(file=io.StringIO(), stop=lambda: signal.SIGTERM)
    with pytest.raises(Interrupted) as interrupted:
        waits.run("compiling", lambda: end.wait(60))
    end.set()
    assert interrupted.value.args == (signal.SIGTERM,)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_acts_at_once_while_nothing_is_to_be_saved(number):
    before = signal.getsignal(number)
    with StopAtOnce(), pytest.raises(Interrupted) as interrupted:
        os.kill(os.getpid(), number)
    assert interrupted.value.args == (number,)
    assert signal.getsignal(number) is before


def test_several_processes_keep_their_handlers():
    before = signal.getsignal(signal.SIGTERM)
    with StopAtOnce(common=True):
        assert signal.getsignal(signal.SIGTERM) is before


BLOCKED = """
    import ctypes, sys
    from bifpn_jax.runs.interruption import Interrupted, StopAtOnce
    from bifpn_jax.runs.waiting import Waits, leave_at_once

    def compile():
        while True:  # In C, where Python handles no signal, as in XLA's compiler.
            ctypes.CDLL(None).sleep(300)

    try:
        with StopAtOnce():
            Waits().run("compiling", compile)
    except Interrupted as interrupted:
        print(interrupted.args[0].name, file=sys.stderr)
        leave_at_once(75)
        sys.exit(75)  # It came before the thread.
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "sleep"), reason="needs a C library's sleep")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_blocked_in_c_ends_at_once(number):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BLOCKED)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "compiling …\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 75
    assert said == f"{number.name}\n"
