"""Timing two programs side by side."""

import json

import pytest

from bifpn_jax.recipe import base
from experiments.performance import fusion_speed


class Clock:
    """Time that passes only in the timed programs."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def program(self, name, seconds):
        def run():
            self.calls.append(name)
            self.now += seconds * (10 if len(self.calls) <= 4 else 1)  # compiles and warms up

        return run


def test_turns_alternate_and_the_first_two_do_not_count(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    pair = {"softmax": clock.program("softmax", 3.0), "fast": clock.program("fast", 2.0)}
    found = fusion_speed._compare(pair, rounds=4)
    assert found == {
        "ratios": [1.5] * 4,
        "median": 1.5,
        "seconds": {"softmax": 3.0, "fast": 2.0},
    }
    assert clock.calls == ["softmax", "fast", "fast", "softmax"] * 3


@pytest.mark.slow
def test_ratios_of_a_tiny_model():
    config = base.get_config("d0", "debug")
    config.model.update(
        {"backbone": "nano", "image_hw": (64, 64), "width": 8, "network_repeats": 1}
    )
    found = fusion_speed.fusion_speed(config, batch_size=1, train_batch_size=2, rounds=2)
    assert json.loads(json.dumps(found)) == found
    for what in ("forward", "train_step"):
        assert len(found[what]["ratios"]) == 2
        assert 0.1 < found[what]["median"] < 10
