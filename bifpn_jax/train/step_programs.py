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
        place: Callable[[Any], Any] = lambda shapes: shapes,
        ready: Callable[[], object] | None = None,
    ) -> None:
        """Args:
        gradients: the first half, with `lower`.
        update: the second half, with `lower`.
        place: gives a tree of shapes the sharding that the results of `gradients` have.
        ready: is called when both are compiled and before the first is run.
        """
        self.gradients, self.update = gradients, update
        self._place, self._ready = place, ready
        self._is_compiled = False

    def __call__(self, state: Any, batch: Any) -> tuple[Any, Any]:
        """One step; the state may be donated."""
        if not self._is_compiled:
            self.compile(state, batch)
            self._is_compiled = True
        return self.update(state, self.gradients(state, batch))

    def compile(self, state: Any, batch: Any) -> None:
        """Compiles both for arguments of these shapes, which may be shapes only."""
        first = self.gradients.lower(state, batch)
        with ThreadPoolExecutor(1) as beside:
            compiled = beside.submit(first.compile)
            found = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), first.out_info
            )
            self.update.lower(state, self._place(found)).compile()
            compiled.result()
        if self._ready is not None:
            self._ready()
