"""Initial values of the parameters, by part of the network."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

Initializer = Callable[..., jax.Array]


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
        return module.param(name, initializer, shape, jnp.float32)
    value = module.get_variable("params", name)
    if jnp.shape(value) != shape:
        path = "/".join((*module.path, name))
        raise ValueError(
            f"parameter {path} has the shape {list(jnp.shape(value))}, this model's has "
            f"{list(shape)}: give the model weights of its own kind."
        )
    return value


ones_init: Initializer = nn.initializers.ones
zeros_init: Initializer = nn.initializers.zeros
# Normal with standard deviation sqrt(2 / fan_out), the backbone's initialiser.
backbone_init: Initializer = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# The same for depthwise kernels [kh, kw, 1, C], where every channel counts on its own, like the
# entries of a batch: fan_out = kh * kw.
backbone_depthwise_init: Initializer = nn.initializers.variance_scaling(
    2.0, "fan_out", "normal", in_axis=-2, out_axis=-2, batch_axis=-1
)
glorot_init: Initializer = nn.initializers.glorot_uniform()
# The heads': truncated normal with variance 1 / fan_in. Depthwise kernels count all C inputs.
head_init: Initializer = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
head_depthwise_init: Initializer = nn.initializers.variance_scaling(
    1.0, "fan_in", "truncated_normal", in_axis=-1, out_axis=-2
)
