"""A training step as two programs, which are compiled side by side."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax


class StepPrograms:
    """(state, batch) -> (state, metrics); the first call compiles.

    The halves of a `step.TrainStep` share nothing but what the first hands to the second, so that
    two cores compile them in less time than one program, and a compiler whose time grows faster
    than the program has two small ones.

    Attributes:
        gradients: the first half, mapped or jitted.
        update: the second half, likewise; it may take the memory of its state.
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
        found_shapes: gives the shapes, with shardings, of what the first half returns for a state.
            So the second is compiled while the first is still traced, which takes one core.
        ready: is called when both are compiled and before the first is run.
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
        """Compiles both for arguments of these shapes, which may be shapes only.

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
