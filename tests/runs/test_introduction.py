"""The first lines of a run."""

from types import SimpleNamespace

import numpy as np
from tiny_model import tiny_model

from bifpn_jax.data.sources.shapes import DrawnShapes
from bifpn_jax.recipe import base
from bifpn_jax.runs.introduction import introduce


def lines_of(config):
    data = DrawnShapes(3, sides=(48, 72))
    lines = []
    run = SimpleNamespace(
        config=config,
        model=tiny_model(),
        train_data=data,
        eval_data=data,
        state=SimpleNamespace(params={"x": np.zeros(3)}),
        line=SimpleNamespace(write=lines.append),
        is_complete=True,
    )
    introduce(run)
    return lines


def test_fields_that_nothing_reads_are_one_line():
    config = base.get_config("d0", "debug")
    before = lines_of(config)
    config.schedule.decay = "step"
    assert lines_of(config) == before
    config.schedule.offset_cosine = True
    told = "config.schedule.offset_cosine=True (of schedule.decay=step)"
    assert lines_of(config) == [*before, f"not read by any of the chosen parts: {told}"]
