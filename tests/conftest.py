"""Strict settings for every test: warnings are errors, silent rank promotion is an error."""

import os

# Eight virtual devices, so that the pmap tests run on any machine; must precede the first jax call.
# JAX_PLATFORMS=cuda,cpu runs the tests on a GPU, with those devices that there are.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from quick_compilation import XLA_FLAGS

# For this process and for those that tests start; of two values of a flag the last one counts.
os.environ["XLA_FLAGS"] = f"{XLA_FLAGS} {os.environ.get('XLA_FLAGS', '')}".strip()

from pathlib import Path

import hypothesis
import jax
import pytest
from absl import flags

from bifpn_jax.command_line.process_memory import collect_garbage_rarely

# A tiny run that is really trained, for tests of what can be done with one.
pytest_plugins = ["tiny_run"]

collect_garbage_rarely()
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Hundreds of programs that each run a few times: without LLVM's optimisations they compile in half
# the time. XLA's own passes are as always.
jax.config.update("jax_disable_most_optimizations", True)

# The same few cases every time; --hypothesis-profile=nightly draws many new ones. How long a case
# takes says nothing on a busy machine.
TIMELESS = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [hypothesis.HealthCheck.too_slow],
}
hypothesis.settings.register_profile("default", max_examples=30, derandomize=True, **TIMELESS)
hypothesis.settings.register_profile("nightly", max_examples=400, print_blob=True, **TIMELESS)
hypothesis.settings.load_profile("default")

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")


def pytest_configure(config):
    flags.FLAGS.mark_as_parsed()


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))
        devices = item.get_closest_marker("devices")
        if devices and devices.args[0] > jax.device_count():
            reason = f"needs {devices.args[0]} devices, there are {jax.device_count()}"
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden values and real images that lies beside the checkout, or a skip."""
    if not SHARED.is_dir():
        pytest.skip(f"no reference data at {SHARED}")
    return SHARED
