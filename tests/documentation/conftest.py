"""What the pages' Python finds in the folder that it runs in."""

import json
from contextlib import closing

import jax
import numpy as np
import pytest

from bifpn_jax.data.sources.shapes import LABEL_MAP
from bifpn_jax.models.initial_values import variable_shapes
from bifpn_jax.recipe import building
from bifpn_jax.train.checkpoints import Checkpoints
from bifpn_jax.train.state import create_state
from configs import quickstart


@pytest.fixture(scope="session")
def quickstart_workdir(tmp_path_factory):
    """A workdir as launch/quickstart.sh leaves it, but that its weights are all alike."""
    config = quickstart.get_config()
    model = building.model(config, LABEL_MAP)
    shapes = variable_shapes(model)
    schedule = building.schedule(config, building.run_length(config, 2000))
    optimizer = building.optimizer(config, schedule, shapes["params"])
    state = jax.eval_shape(lambda variables: create_state(variables, optimizer), shapes)
    # One value for all: to draw them would take long to compile.
    state = jax.tree.map(lambda leaf: jax.device_put(np.full(leaf.shape, 0.1, leaf.dtype)), state)
    meta = {"config": json.loads(config.to_json()), "label_map": LABEL_MAP.to_json()}
    workdir = tmp_path_factory.mktemp("reader") / "runs" / "quickstart"
    with closing(Checkpoints(workdir)) as checkpoints:
        checkpoints.save(2500, state, {}, meta, {"AP": 0.0})
    return workdir
