"""A training step as two programs that are compiled in parallel."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax


class StepPrograms:
    """(state, batch) -> (state, metrics); the first call compiles.

    The halves of a `step.TrainStep` share only what the first passes to the second. So two cores
    compile them in less time than one program, and so does a compiler whose time grows faster than
    the size of a program.

    Attributes:
        gradients: the first half, mapped or jitted.
        update: the second half, likewise; it may donate its state.
    """

    def __init__(
        self,
        gradients: Any,
        update: Any,
        *,
        found_shapes: Callable[[Any], Any],
        ready: Callable[[], object] | None = None,
    ) -> None:
        """Args:
        gradients: the first half, with `lower`.
        update: the second half, with `lower`.
        found_shapes: returns the shapes, with shardings, of the first half's results for a state,
            so that the second is compiled while the first is still being traced, on one core.
        ready: called when both are compiled and before the first is run.
        """
        self.gradients, self.update = gradients, update
        self._found_shapes, self._ready = found_shapes, ready
        self._is_compiled = False

    def __call__(self, state: Any, batch: Any) -> tuple[Any, Any]:
        """One step; the state may be donated."""
        if not self._is_compiled:
            self.compile(state, batch)
            self._is_compiled = True
        return self.update(state, self.gradients(state, batch))

    def compile(self, state: Any, batch: Any) -> None:
        """Compile both for arguments of these shapes, which may be shapes only.

        Raises:
            ValueError: the first half returns other shapes than the second was compiled for.
        """
        expected = self._found_shapes(state)
        with ThreadPoolExecutor(1) as beside:
            compiled = beside.submit(self.update.lower(state, expected).compile)
            first = self.gradients.lower(state, batch)
            if _shapes(first.out_info) != _shapes(expected):
                raise ValueError("gradients: its results have other shapes than found_shapes says.")
            first.compile()
            compiled.result()
        if self._ready is not None:
            self._ready()


def _shapes(tree: Any) -> tuple[Any, list[Any]]:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]
