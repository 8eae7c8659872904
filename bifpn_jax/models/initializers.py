"""Initial values of the parameters, by part of the network.

An initialiser is data: a distribution and how wide it is for a shape. So the values of a whole
network can be drawn at once, see `initial_values`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Initializer = Callable[..., jax.Array]


@dataclass(frozen=True)
class Constant:
    """The same value everywhere; called as flax calls initialisers."""

    value: float

    def __call__(
        self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32
    ) -> jax.Array:
        """An array of this shape; the key is not read."""
        return jnp.full(shape, self.value, dtype)


@dataclass(frozen=True)
class Draws:
    """Independent draws; called as flax calls initialisers.

    Attributes:
        distribution: (key, shape) -> float32 draws of any deviation.
        factor: shape -> what they are multiplied with.
    """

    distribution: Callable[[jax.Array, tuple[int, ...]], jax.Array]
    factor: Callable[[tuple[int, ...]], float]

    def __call__(
        self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32
    ) -> jax.Array:
        """An array of this shape."""
        return (self.distribution(key, shape) * self.factor(shape)).astype(dtype)


@jax.tree_util.register_static
@dataclass(frozen=True)
class Record:
    """The initialiser of a variable, beside the variables that `init` returns."""

    initializer: Initializer


def record_name(name: str) -> str:
    """Under which "intermediates" have the `Record` of a module's variable."""
    return f"initializer of {name}"


def parameter(
    module: nn.Module, name: str, initializer: Initializer, shape: tuple[int, ...]
) -> jax.Array:
    """A float32 parameter of a module: the given one, or a new one from the initialiser.

    `module.param` does the same, but traces the initialiser of a given parameter to compare its
    shape, which is a tenth of the time to trace a training step.

    Raises:
        ValueError: the given one has another shape.
    """
    if not module.has_variable("params", name):
        _record(module, name, initializer)
        return module.param(name, initializer, shape, jnp.float32)
    value = module.get_variable("params", name)
    if jnp.shape(value) != shape:
        path = "/".join((*module.path, name))
        raise ValueError(
            f"parameter {path} has the shape {list(jnp.shape(value))}, this model's has "
            f"{list(shape)}: give the model weights of its own kind."
        )
    return value


def statistic(
    module: nn.Module, name: str, initializer: Constant, shape: tuple[int, ...]
) -> nn.Variable:
    """A float32 variable of the collection "batch_stats"."""
    if not module.has_variable("batch_stats", name):
        _record(module, name, initializer)
    return module.variable("batch_stats", name, initializer, None, shape)


def _record(module: nn.Module, name: str, initializer: Initializer) -> None:
    # Kept only where someone asks for the collection, which `init` by itself does not.
    module.sow(
        "intermediates",
        record_name(name),
        Record(initializer),
        init_fn=lambda: None,
        reduce_fn=lambda _, newest: newest,
    )


def _uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.uniform(key, shape, minval=-1.0)


def _truncated_normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.truncated_normal(key, -2.0, 2.0, shape)


# Of a normal distribution that is cut at two deviations.
_TRUNCATED_DEVIATION = 0.87962566103423978

# Kernels are [kh, kw, Cin, Cout], depthwise ones [kh, kw, 1, C].
ones_init = Constant(1.0)
zeros_init = Constant(0.0)
# Normal with standard deviation sqrt(2 / fan_out), the backbone's initialiser.
backbone_init = Draws(
    jax.random.normal, lambda shape: math.sqrt(2 / (math.prod(shape[:2]) * shape[-1]))
)
# The same for depthwise kernels, where every channel counts on its own: fan_out = kh * kw.
backbone_depthwise_init = Draws(
    jax.random.normal, lambda shape: math.sqrt(2 / math.prod(shape[:2]))
)
# Uniform up to sqrt(6 / (fan_in + fan_out)), as Glorot and Bengio have it.
glorot_init = Draws(
    _uniform, lambda shape: math.sqrt(6 / (math.prod(shape[:2]) * (shape[-2] + shape[-1])))
)
# The heads': truncated normal with variance 1 / fan_in. Depthwise kernels count all C inputs.
head_init = Draws(
    _truncated_normal, lambda shape: math.sqrt(1 / math.prod(shape[:-1])) / _TRUNCATED_DEVIATION
)
head_depthwise_init = Draws(
    _truncated_normal, lambda shape: math.sqrt(1 / math.prod(shape)) / _TRUNCATED_DEVIATION
)
