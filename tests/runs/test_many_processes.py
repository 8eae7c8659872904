"""The command itself on one device, on four, and on two processes with two devices each."""

import json
import os
import signal
import time

import numpy as np
import pytest
from several_processes import finish, free_port, start
from small_run import STEPS, state_of, words

from bifpn_jax.runs.workdir_lock import lock_workdir
from bifpn_jax.train.checkpoint_reader import read_json

MINUTES = 15


def train(workdir, data_dir, processes, devices, *more):
    """Starts a run; compiled programs are kept beside the data for the next one."""
    cache = {"JAX_COMPILATION_CACHE_DIR": data_dir / "programs"}
    if processes == 1:
        return [start(words(workdir, data_dir, *more), devices, **cache)]
    address = f"--coordinator_address=127.0.0.1:{free_port()}"
    return [
        start(
            words(
                workdir,
                data_dir,
                *more,
                *(address, f"--process_id={i}", f"--process_count={processes}"),
                *("--start_timeout=120", "--heartbeat_timeout=60"),
            ),
            devices,
            **cache,
        )
        for i in range(processes)
    ]


def assert_same_run(ours, expected):
    ours_state, expected_state = state_of(ours), state_of(expected)
    assert ours_state.keys() == expected_state.keys()
    for name, array in expected_state.items():
        # Momenta are sums of gradients, which the learning rate has not scaled down.
        tolerance = 1e-3 if name.startswith("opt_state") else 1e-5
        np.testing.assert_allclose(ours_state[name], array, rtol=1e-5, atol=tolerance, err_msg=name)
    last = f"checkpoints/latest/{STEPS}"
    assert read_json(ours / last, "iterator") == read_json(expected / last, "iterator")
    assert read(ours, "metrics.json") == read(expected, "metrics.json")
    assert [image(d) for d in read(ours, "detections.json")] == [
        image(d) for d in read(expected, "detections.json")
    ]
    for line, other in zip(logged(ours), logged(expected), strict=True):
        assert line["step"] == other["step"]
        for name in ("train/loss", "train/dropped_boxes", "train/learning_rate"):
            if name in other:
                assert line[name] == pytest.approx(other[name], rel=1e-5), (name, line["step"])
    assert logged(ours)[-2]["train/dropped_boxes"] > 0


def image(detection):
    return detection["image_id"]


def read(workdir, name):
    return json.loads((workdir / name).read_text())


def logged(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def assert_complete(ended, workdir):
    assert [process.status for process in ended] == [0] * len(ended), ended
    assert "trained for 0:" in ended[0].stderr
    # The first one alone writes and speaks.
    for process in ended[1:]:
        assert process.said == []
    assert not (workdir / "lock").exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("many_processes")


@pytest.fixture(scope="module")
def one(folder):
    workdir = folder / "one"
    assert_complete(finish(train(workdir, folder, 1, 1), 60 * MINUTES), workdir)
    return workdir


@pytest.mark.slow
def test_four_devices_train_like_one(one, folder):
    workdir = folder / "four"
    assert_complete(finish(train(workdir, folder, 1, 4), 60 * MINUTES), workdir)
    assert_same_run(workdir, one)


@pytest.mark.slow
def test_two_processes_with_two_devices_train_like_one(one, folder):
    workdir = folder / "two_by_two"
    assert_complete(finish(train(workdir, folder, 2, 2), 60 * MINUTES), workdir)
    assert_same_run(workdir, one)


@pytest.mark.slow
def test_sigterm_to_one_process_stops_both_at_the_same_step_and_one_process_goes_on(one, folder):
    workdir = folder / "interrupted"
    both = train(workdir, folder, 2, 2)
    end = time.monotonic() + 60 * MINUTES
    log = workdir / "metrics.jsonl"
    while not (log.exists() and log.read_text()):  # step 2
        assert time.monotonic() < end
        time.sleep(0.1)
    both[1].send_signal(signal.SIGTERM)
    ended = finish(both, 60 * MINUTES)
    assert [process.status for process in ended] == [75, 75], ended
    saved = [int(path.name) for path in (workdir / "checkpoints" / "latest").iterdir()]
    assert 2 < max(saved) < STEPS
    assert f"SIGTERM: saved step {max(saved)}; the same command continues there" in ended[0].stderr
    assert_complete(finish(train(workdir, folder, 1, 1), 60 * MINUTES), workdir)
    assert_same_run(workdir, one)


@pytest.mark.slow
def test_a_second_run_in_the_same_workdir_is_refused_in_every_process(folder):
    workdir = folder / "taken"
    with lock_workdir(workdir):
        ended = finish(train(workdir, folder, 2, 1), 300)
    assert [process.status for process in ended] == [2, 2], ended
    line = f"{workdir}: process {os.getpid()} on "
    assert ended[0].said[-1].startswith(f"error: {line}")
    assert ended[1].said[-1].startswith(f"error: process 0: {line}")
    assert not list(workdir.iterdir())


def test_a_batch_that_the_devices_of_all_processes_cannot_share(folder):
    workdir = folder / "uneven"
    ended = finish(train(workdir, folder, 2, 3), 300)
    for process in ended:
        assert process.status == 2
        assert process.said[-1].startswith("error: batch size 4 cannot be split over 6 devices")
    assert not workdir.exists()
