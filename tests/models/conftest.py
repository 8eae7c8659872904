from collections.abc import Iterator

import pytest
from quick_compilation import quick_compilation


@pytest.fixture(scope="module", autouse=True)
def compile_quickly() -> Iterator[None]:
    """Hundreds of programs that each run once or twice: compiling them is nearly all the time."""
    with quick_compilation():
        yield
