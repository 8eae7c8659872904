from collections.abc import Iterator

import pytest
from quick_compilation import quick_compilation


@pytest.fixture(scope="module")
def compile_quickly() -> Iterator[None]:
    """Training steps compile in half the time; a step or two then take a little longer."""
    with quick_compilation():
        yield
