"""Keys under which compilation times are remembered, from all that they depend on."""

import json

import jax
from ml_collections import ConfigDict

from bifpn_jax.runs.waiting import program_key
from bifpn_jax.train import devices


def training_key(config: ConfigDict) -> str:
    """Return the key of the training step."""
    return _key("training", config, "model", "train", "optimizer", "loss", "data.max_boxes")


def evaluation_key(config: ConfigDict) -> str:
    """Return the key of the evaluation."""
    return _key("evaluation", config, "model", "eval")


def _key(program: str, config: ConfigDict, *fields: str) -> str:
    free = ("epochs", "steps", "every_epochs", "weights", "nonfinite")
    found = config.to_dict()
    parts = {}
    for field in fields:
        group, _, name = field.partition(".")
        values = found[group]
        parts[field] = values[name] if name else {k: v for k, v in values.items() if k not in free}
    return program_key(
        program=program,
        settings=json.loads(json.dumps(parts)),
        devices=[devices.device_name(), devices.device_count()],
        jax=jax.__version__,
    )
