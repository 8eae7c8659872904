"""Size of a model: trainable parameters, and multiply-adds counted from its program."""

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax.extend import core

# One operation per output element; batch norm, which folds into the convolution, is not counted.
_ELEMENTWISE = {"add", "sub", "mul", "div", "logistic"}


class Cost(NamedTuple):
    """Work of one forward pass for one image.

    Attributes:
        convolutions: multiply-adds of convolutions and matrix products.
        elementwise: operations of activations, gates, biases, sums and pooling.
    """

    convolutions: int
    elementwise: int

    @property
    def multiply_adds(self) -> float:
        """The published measure: TensorFlow's profiler counts elementwise operations as half."""
        return self.convolutions + self.elementwise / 2


def num_parameters(params: Any) -> int:
    """Return the number of trainable values in a tree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def forward_cost(model: nn.Module, image_hw: tuple[int, int]) -> Cost:
    """Count the operations of `model` for one image of `image_hw`.

    The program is traced, not run. If an operation has implementations for several platforms, the
    native one (XLA's own) is counted, so the number does not depend on the machine.
    """
    image = jax.ShapeDtypeStruct((1, *image_hw, 3), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    return Cost(*_count(jax.make_jaxpr(model.apply)(variables, image).jaxpr, batch_norm=False))


def _count(jaxpr: core.Jaxpr, batch_norm: bool) -> np.ndarray:
    total = np.zeros(2, object)
    for eqn in jaxpr.eqns:
        inside = batch_norm or "bn" in str(eqn.source_info.name_stack).rpartition("/")[2]
        total += _count_equation(eqn, inside)
    return total


def _count_equation(eqn: Any, batch_norm: bool) -> np.ndarray:
    name, size = eqn.primitive.name, math.prod(eqn.outvars[0].aval.shape)
    if name == "conv_general_dilated":
        kernel = eqn.invars[1].aval.shape
        out_channels = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
        return np.array([size * math.prod(kernel) // out_channels, 0], object)
    if name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        depth = math.prod(eqn.invars[0].aval.shape[d] for d in contracted)
        return np.array([size * depth, 0], object)
    if name == "cond" and "branches_platforms" in eqn.params:
        native = eqn.params["branches_platforms"].index(None)
        return _count(eqn.params["branches"][native].jaxpr, batch_norm)
    inner = [_count(sub, batch_norm) for sub in sub_jaxprs(eqn.params)]
    if inner:
        return sum(inner)
    return np.array([0, 0 if batch_norm else _elementwise(eqn, size)], object)


def _elementwise(eqn: Any, size: int) -> int:
    name = eqn.primitive.name
    if name in _ELEMENTWISE:
        return size
    if name == "reduce_sum":
        return math.prod(eqn.invars[0].aval.shape)
    if name == "reduce_window_max":
        return size * math.prod(eqn.params["window_dimensions"])
    return 0


def sub_jaxprs(params: dict[str, Any]) -> list[core.Jaxpr]:
    """Return the programs inside an operation, from its parameters."""
    found = []
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                found.append(item.jaxpr)
            elif isinstance(item, core.Jaxpr):
                found.append(item)
    return found
