"""Keeps the batch norms of frozen layers in evaluation mode while the rest trains."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import flax.linen as nn

from bifpn_jax.models.layers import BatchNorm


def frozen_norms(freeze: str | None) -> AbstractContextManager[None]:
    """Return a context in which batch norms that `freeze` matches use and keep their statistics.

    A frozen layer after a batch norm that still follows the batch would not be frozen at all.

    Args:
        freeze: regular expression as in `optimizer.make_optimizer`; a batch norm is frozen if it
            matches the path of its scale, "backbone/stem_bn/scale", from the start. None freezes
            nothing.
    """
    if freeze is None:
        return nullcontext()
    pattern = re.compile(freeze)

    def evaluate_frozen(
        next_call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        module = context.module
        is_norm = isinstance(module, BatchNorm) and context.method_name == "__call__"
        if is_norm and pattern.match("/".join((*module.path, "scale"))):
            return next_call(args[0], False)
        return next_call(*args, **kwargs)

    return nn.intercept_methods(evaluate_frozen)
