import os
import signal

import pytest

from bifpn_jax.runs import interruption
from bifpn_jax.runs.interruption import StopRequest


@pytest.fixture(autouse=True)
def ctrl_c():
    """Of a process in the foreground; a shell makes those in the background ignore it."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.fixture
def sigterms():
    """SIGTERMs that reach the handler from before, which is JAX's in several processes."""
    seen = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    yield seen
    signal.signal(signal.SIGTERM, previous)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_alone_the_first_signal_is_a_wish(number, sigterms):
    with StopRequest() as stop:
        assert stop.after(1) is None
        os.kill(os.getpid(), number)
        assert stop.after(2) is number
    assert sigterms == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_to_the_process_and_to_its_group_is_one_wish(sigterms):
    with StopRequest() as stop:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.after(1) is signal.SIGTERM
    assert sigterms == []


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_later_signal_acts_at_once(first, sigterms, monkeypatch):
    monkeypatch.setattr(interruption, "_SAME_WISH", -1.0)
    with StopRequest() as stop:
        os.kill(os.getpid(), first)
        os.kill(os.getpid(), signal.SIGTERM)
        assert sigterms == [signal.SIGTERM]
        assert stop.after(1) is first
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_while_the_handlers_go_back_is_no_error(sigterms, monkeypatch):
    monkeypatch.setattr(interruption, "_SAME_WISH", -1.0)
    original = signal.signal

    def interrupted(number, handler):
        previous = original(number, handler)
        os.kill(os.getpid(), signal.SIGINT)
        return previous

    with pytest.raises(KeyboardInterrupt), StopRequest():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        monkeypatch.setattr(signal, "signal", interrupted)
        os.kill(os.getpid(), signal.SIGINT)
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_of_several_processes_all_stop_after_a_common_step(sigterms, monkeypatch):
    monkeypatch.setattr(interruption.exchange, "reached_common_stop", lambda step: step == 4)
    with StopRequest(common=True) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert [stop.after(step) for step in (2, 3, 4)] == [None, None, signal.SIGTERM]
    assert sigterms == [signal.SIGTERM]


def test_ctrl_c_in_one_of_several_processes_is_told_to_the_others(sigterms):
    with StopRequest(common=True):
        os.kill(os.getpid(), signal.SIGINT)
        assert sigterms == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
