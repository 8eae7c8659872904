"""A run that is killed again and again ends as one that nobody disturbed, bit for bit."""

import random
import time

import numpy as np
import pytest
from several_processes import finish, start
from small_run import STEPS, state_of, words

KILLS = 20
TIMEOUT = 900


class Run:
    """The command in a process of its own, with a checkpoint after every step."""

    def __init__(self, workdir, folder):
        self.workdir = workdir
        more = ("--config.checkpoint.every_epochs=0.2", "--config.eval.every_epochs=100")
        self.process = start(
            words(workdir, folder, *more), JAX_COMPILATION_CACHE_DIR=folder / "programs"
        )

    def wait_for_training(self):
        """Until it says what steps it will make; programs come from the cache after that."""
        for line in self.process.stderr:
            if "the first step compiles" in line:
                return
        pytest.fail(f"the run ended: {finish([self.process], TIMEOUT)}")

    def is_saving(self):
        latest = self.workdir / "checkpoints" / "latest"
        return any(latest.glob("*tmp*"))

    def wait_for_saving(self):
        while not self.is_saving() and self.process.poll() is None:
            time.sleep(0.001)

    def kill(self):
        """Kills it if it still runs, and says whether it did."""
        alive = self.process.poll() is None
        self.process.kill()
        self.process.communicate()
        return alive

    def end(self):
        (ended,) = finish([self.process], TIMEOUT)
        assert ended.status == 0, ended


@pytest.mark.slow
def test_twenty_kills_change_no_bit(tmp_path):
    """At random moments, every other one as soon as a checkpoint is being written after that."""
    undisturbed = Run(tmp_path / "undisturbed", tmp_path)
    undisturbed.end()
    again = Run(tmp_path / "again", tmp_path)  # the programs are compiled now
    again.wait_for_training()
    began = time.monotonic()
    again.end()
    seconds = time.monotonic() - began
    expected = state_of(undisturbed.workdir)
    assert_same_bits(state_of(again.workdir), expected)

    moments = random.Random(0)
    kills = while_saving = finished = 0
    while kills < KILLS:
        workdir = tmp_path / f"killed_{finished}"
        while not (workdir / "finished.json").exists():
            run = Run(workdir, tmp_path)
            run.wait_for_training()
            time.sleep(moments.uniform(0, seconds))
            if kills % 2:
                run.wait_for_saving()
            saving = run.is_saving()
            if run.kill():
                kills += 1
                while_saving += saving
        finished += 1
        assert_same_bits(state_of(workdir), expected)
    print(
        f"{kills} kills, {while_saving} of them while a checkpoint was written, in {finished} runs"
    )
    assert while_saving >= 3


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    assert any(name.startswith("ema_params") for name in found)
    assert int(found["step"]) == STEPS
