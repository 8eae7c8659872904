"""Half the time to compile, for tests that compile more than they compute."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax


@contextmanager
def quick_compilation() -> Iterator[None]:
    """Context in which XLA leaves out most optimisations; programs then run a little longer."""
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", False)
