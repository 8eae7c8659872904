"""Several processes: that they find each other, agree, and end together."""

import json
import os
import signal
import socket
import time

import jax
import numpy as np
import pytest
from several_processes import ROOT, finish, free_port, start

from bifpn_jax.errors import UserError
from bifpn_jax.train import devices, exchange, processes
from bifpn_jax.train.checkpoints import Checkpoints

START = "from bifpn_jax.train import processes as p; from bifpn_jax.train import exchange; "


def on_slurm(number, count, port):
    return {
        "SLURM_JOB_ID": 4711,
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": count,
        "SLURM_PROCID": number,
        "SLURM_LOCALID": number,
        "JAX_COORDINATOR_PORT": port,
    }


def on_open_mpi(number, count, port):
    return {
        "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": count,
        "OMPI_COMM_WORLD_RANK": number,
        "OMPI_COMM_WORLD_LOCAL_RANK": number,
        "JAX_COORDINATOR_PORT": port,
    }


def on_open_mpi_5(number, count, port):
    return {"OMPI_COMM_WORLD_SIZE": count, "OMPI_COMM_WORLD_RANK": number}


@pytest.fixture(scope="module")
def exchanged(tmp_path_factory):
    """What two processes found out, and the folder with their checkpoints."""
    folder, port = tmp_path_factory.mktemp("exchanged"), free_port()
    script = str(ROOT / "tests" / "train" / "exchanging.py")
    both = [
        start([script, str(folder)], 2, PYTHONPATH=ROOT, **on_slurm(i, 2, port)) for i in range(2)
    ]
    ended = finish(both, 120)
    for number, process in enumerate(ended):
        assert process.status == 0, f"process {number}:\n{process.stderr}"
    return [json.loads(process.stdout.splitlines()[-1]) for process in ended], folder


def test_processes_find_each_other_through_slurm(exchanged):
    facts, _ = exchanged
    assert [fact["process"] for fact in facts] == [[0, 2, 4, True], [1, 2, 4, True]]
    assert [fact["rows_to_read"] for fact in facts] == [4, 4]


def test_what_one_says_all_hear(exchanged):
    facts, _ = exchanged
    for fact in facts:
        assert fact["gather"] == [3, 1003]
        assert fact["empty"] == ["", ""]
        assert fact["rows"] == [[10, [0.1]], [11, [0.1]], [12, []]]
        assert fact["from_primary"] == {"AP": 0.1, "none": None}
        assert fact["add_up"] == 11
        assert fact["same"] == 1.0


def test_an_error_of_one_is_an_error_of_all(exchanged):
    first, second = exchanged[0]
    assert first["together"] == second["together"] == "no error"
    assert first["error in 0"] == "the disk of 0 is full"
    assert second["error in 0"] == "process 0: the disk of 0 is full"
    assert first["error in 1"] == "process 1: the disk of 1 is full"
    assert second["error in 1"] == "the disk of 1 is full"


def test_the_first_process_goes_ahead(exchanged):
    assert [fact["found"] for fact in exchanged[0]] == [False, True]


def test_a_step_is_over_all_devices_of_all_processes(exchanged):
    first, second = exchanged[0]
    assert first["total"] == second["total"] == sum(range(8))
    assert first["compilations"] == second["compilations"] == 2
    assert first["predicted"] == [0, 2, 4, 6]
    assert second["predicted"] == [8, 10, 12, 14]


def test_checkpoints_of_two_processes(exchanged):
    facts, folder = exchanged
    for fact in facts:
        assert fact["restored"] == [[84.0] * 3, 3, {"next_index": 24}, {"name": "two"}]
        assert fact["best"] == 2
    # And here, in one process with eight devices.
    shapes = {"sum": np.zeros(3, np.float32), "step": np.int32(0)}
    target = devices.replicated_shapes(shapes)
    checkpoints = Checkpoints(folder)
    state, position, _ = checkpoints.restore(target)
    checkpoints.close()
    assert np.asarray(state["sum"]).tolist() == [56.0] * 3
    assert (int(state["step"]), position) == (2, {"next_index": 24})
    assert len(state["sum"].devices()) == 8


def test_alone_everything_is_given_back():
    with exchange.together(), exchange.primary_first():
        assert exchange.gather(b"a") == [b"a"]
    assert exchange.gather_rows([1, None]) == [1, None]
    assert exchange.from_primary(lambda: "x") == "x"
    assert exchange.add_up(2**40) == 2**40
    tree = {"a": np.ones(2)}
    assert exchange.same_everywhere(tree) is tree
    with pytest.raises(UserError, match=r"^full$"), exchange.together():
        raise UserError("full")
    assert not processes.several()
    assert not processes.peer_is_gone(jax.errors.JaxRuntimeError("Gloo: connection closed"))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("host", 0, 2), "coordinator_address=host: give the host and a free port"),
        (("host:x", 0, 2), "coordinator_address=host:x: give the host and"),
        (("host:70000", 0, 2), "coordinator_address=host:70000: give the host and"),
        ((None, None, 0), "process_count=0: give the number of processes, 1 or more."),
        (("h:1", 2, 2), "process_id=2: processes are numbered from 0 to 1, process_count=2."),
        (("h:1", -1, None), "process_id=-1: processes are numbered from 0 or more."),
    ],
)
def test_what_can_never_be_right(arguments, line, monkeypatch):
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **__: pytest.fail("started"))
    with pytest.raises(UserError) as error:
        processes.start(*arguments)
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "environment", "line"),
    [
        (("h:1", None, None), {}, "there is no scheduler to ask for the rest: give all of coor"),
        ((None, 1, 2), {}, "there is no scheduler to ask for the rest: give all of coordinator"),
        ((), {"JAX_COORDINATOR_ADDRESS": "h:1"}, "there is no scheduler to ask for the rest"),
        ((), on_open_mpi_5(1, 2, 0), "this is one of several processes, but the scheduler does"),
        ((), {"PMI_SIZE": "4", "PMI_RANK": "3"}, "this is one of several processes, but the"),
        (
            (),
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "3"},
            "this is one of several processes, but the scheduler does",
        ),
        ((), {"SLURM_JOB_ID": "4711"}, None),
        ((None, None, 1), on_open_mpi_5(1, 2, 0), None),
        (("h:1", 0, 1), {}, None),
        ((), on_open_mpi_5(0, 1, 0), None),
    ],
)
def test_where_no_scheduler_says_enough(arguments, environment, line, monkeypatch):
    """With JAX's own detection, which raises before it connects to anything."""
    monkeypatch.setattr("jax._src.xla_bridge.backends_are_initialized", lambda: False)
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    if line is None:
        processes.start(*arguments)
    else:
        with pytest.raises(UserError) as error:
            processes.start(*arguments)
        assert str(error.value).startswith(line)
        assert "\n" not in str(error.value)
    assert not processes.several()


def test_an_environment_that_cannot_be_read(monkeypatch):
    def fail(*_, **__):
        raise KeyError("job-name")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(UserError, match=r"cannot find the other processes \(KeyError: 'job-name'"):
        processes.start()


@pytest.mark.parametrize("scheduler", [on_open_mpi, on_open_mpi_5])
def test_open_mpi(scheduler):
    port = free_port()
    address = repr(f"127.0.0.1:{port}") if scheduler is on_open_mpi_5 else ""
    code = f"{START}p.start({address}); print(exchange.add_up(1), p.several())"
    both = [start(["-c", code], **scheduler(i, 2, port)) for i in range(2)]
    for process in finish(both, 60):
        assert process.stdout.splitlines()[-1:] == ["2 True"], process


def test_a_coordinator_that_cannot_be_reached_is_one_line_after_the_timeout():
    began = time.monotonic()
    address = f"127.0.0.1:{free_port()}"
    alone = [start(["-c", f"{START}p.start('{address}', {i}, 2, start_timeout=2)"]) for i in (1,)]
    alone.append(start(["-c", f"{START}p.start('127.0.0.1:{free_port()}', 0, 2, start_timeout=2)"]))
    for process in finish(alone, 60):
        assert process.status == 2
        (line,) = process.said
        assert line.startswith(
            "error: 2 processes of this run did not find each other at 127.0.0.1"
        )
        assert "within 2 s" in line
    assert time.monotonic() - began < 40


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET6, "::"), (socket.AF_INET, "")])
def test_a_port_that_is_in_use(family, host):
    with socket.socket(family) as taken:
        taken.bind((host, 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match=f"cannot listen at {address}: the port is in use"):
            processes.start(address, 0, 2, start_timeout=5)


@pytest.mark.parametrize(("dies", "how"), [(1, "exit"), (0, "exit"), (1, "stop")])
def test_when_one_dies_the_other_ends_too(dies, how):
    """At once where the connection is closed, after the heartbeat's timeout where it is silent."""
    port = free_port()
    code = (
        "import sys, os, time; "
        f"{START}\naddress = '127.0.0.1:{port}'\n"
        "p.start(address, int(sys.argv[1]), 2, start_timeout=60, heartbeat_timeout=4)\n"
        "exchange.gather(b'')\nprint('together', flush=True)\n"
        f"if int(sys.argv[1]) == {dies}: {'os._exit(9)' if how == 'exit' else 'time.sleep(300)'}\n"
        "try:\n    exchange.gather(b'')\n"
        "except Exception as error:\n    print(p.peer_is_gone(error))\n    p.leave(76)\n"
    )
    both = [start(["-c", code, str(i)]) for i in range(2)]
    if how == "stop":
        while both[dies].stdout.readline() != "together\n":
            assert both[dies].poll() is None
        os.kill(both[dies].pid, signal.SIGSTOP)
    began = time.monotonic()
    other = both[1 - dies]
    try:
        (ended,) = finish([other], 60)
    finally:
        both[dies].kill()
        both[dies].communicate()
    assert time.monotonic() - began < 50
    # 76 where the computation fails; JAX aborts where its coordinator tells it first.
    assert ended.status in (76, -signal.SIGABRT)
    if ended.status == 76:
        assert ended.stdout.splitlines()[-2:] == ["together", "True"]
    else:
        assert "another task died" in ended.stderr
