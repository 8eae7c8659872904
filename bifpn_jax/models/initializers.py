"""Initial values of the parameters, by part of the network.

An initialiser is data: a distribution, and its scale for each shape. The values of a whole network
can therefore be drawn at once, see `initial_values`, which finds the initialiser of a variable
"kernel" as the attribute `kernel_init` of its layer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

Initializer = Callable[..., jax.Array]


@dataclass(frozen=True)
class Constant:
    """The same value everywhere; has the call signature of Flax initialisers."""

    value: float

    def __call__(
        self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32
    ) -> jax.Array:
        """Return an array of this shape; the key is not used."""
        return jnp.full(shape, self.value, dtype)


@dataclass(frozen=True)
class Draws:
    """Independent draws; has the call signature of Flax initialisers.

    Attributes:
        distribution: (key, shape) -> float32 draws of any scale.
        factor: shape -> the factor by which draws are multiplied.
    """

    distribution: Callable[[jax.Array, tuple[int, ...]], jax.Array]
    factor: Callable[[tuple[int, ...]], float]

    def __call__(
        self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32
    ) -> jax.Array:
        """Return an array of this shape."""
        return _draw(key, self, tuple(shape), dtype)


# Jitted, because Flax traces an initialiser whenever it checks the shape of a given parameter.
@partial(jax.jit, static_argnums=(1, 2, 3))
def _draw(key: jax.Array, initializer: Draws, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    draws = initializer.distribution(key, shape) * initializer.factor(shape)
    return draws.astype(dtype)


def _uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.uniform(key, shape, minval=-1.0)


def _truncated_normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.truncated_normal(key, -2.0, 2.0, shape)


# Standard deviation of a normal distribution truncated at two deviations.
_TRUNCATED_DEVIATION = 0.87962566103423978

# Kernels are [kh, kw, Cin, Cout], depthwise ones [kh, kw, 1, C].
ones_init = Constant(1.0)
zeros_init = Constant(0.0)
# Normal with standard deviation sqrt(2 / fan_out), the backbone's initialiser.
backbone_init = Draws(
    jax.random.normal, lambda shape: math.sqrt(2 / (math.prod(shape[:2]) * shape[-1]))
)
# The same for depthwise kernels, where every channel counts separately: fan_out = kh * kw.
backbone_depthwise_init = Draws(
    jax.random.normal, lambda shape: math.sqrt(2 / math.prod(shape[:2]))
)
# Uniform up to sqrt(6 / (fan_in + fan_out)), as in Glorot and Bengio.
glorot_init = Draws(
    _uniform, lambda shape: math.sqrt(6 / (math.prod(shape[:2]) * (shape[-2] + shape[-1])))
)
# For the heads: truncated normal with variance 1 / fan_in. Depthwise kernels count all C inputs.
head_init = Draws(
    _truncated_normal, lambda shape: math.sqrt(1 / math.prod(shape[:-1])) / _TRUNCATED_DEVIATION
)
head_depthwise_init = Draws(
    _truncated_normal, lambda shape: math.sqrt(1 / math.prod(shape)) / _TRUNCATED_DEVIATION
)
