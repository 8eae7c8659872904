"""A tiny study, and a program that takes the place of training."""

import json
import runpy
import sys
import time
from pathlib import Path

import pytest

from experiments.sweeps.plan import Study, read_rows

STUDY = """
from bifpn_jax.recipe import quickstart


def get_config(arg=None):
    config = quickstart.get_config()
    config.study = "tiny"
    config.train.steps = 4
    if arg:
        config.name = arg
    return config


def sweep(arg=None):
    return {"sum": {"model.fusion": "sum"}, "fast": {}, "wide": {"model.width": 64}}
"""


@pytest.fixture
def study_file(tmp_path):
    """Writes a study and returns its path."""

    def write(text=STUDY, name="tiny.py"):
        file = tmp_path / name
        file.write_text(text)
        return str(file)

    return write


@pytest.fixture
def make_study(study_file):
    """The tiny study with overrides, as the command line would give them."""

    def make(overrides=None, *, text=STUDY, arg=""):
        file = study_file(text)
        config = runpy.run_path(file)["get_config"](*([arg] if arg else []))
        config.update_from_flattened_dict(overrides or {})
        file += f":{arg}" if arg else ""
        return Study(file, config.lock(), overrides or {}, read_rows(file))

    return make


@pytest.fixture
def fake_program():
    """The words of the fake program; its argument says what runs do, {"sum/seed_0": "fail"}."""

    def make(actions=None):
        script = Path(__file__).with_name("fake_training.py")
        return sys.executable, str(script), json.dumps(actions or {})

    return make


@pytest.fixture
def calls(tmp_path):
    """Names of the runs that were started since the last call."""

    def read():
        file = tmp_path / "calls.txt"
        names = file.read_text().split() if file.exists() else []
        file.unlink(missing_ok=True)
        return names

    return read


@pytest.fixture
def wait_for():
    """Waits until a file is there, and returns its content."""

    def wait(file):
        for _ in range(600):
            if file.exists() and (content := file.read_text()):
                return content
            time.sleep(0.05)
        raise TimeoutError(file)

    return wait
