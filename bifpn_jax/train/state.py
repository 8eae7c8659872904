"""Everything that a training step reads and writes."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax


class TrainState(flax.struct.PyTreeNode):
    """The state of a run; every leaf is a jax array.

    Attributes:
        step: [] int32, updates made so far.
        params: trainable parameters, float32.
        batch_stats: running mean and variance of every batch norm.
        opt_state: the optimizer's.
        ema_params: moving average of `params`.
        ema_batch_stats: moving average of `batch_stats`.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema_params: Any
    ema_batch_stats: Any

    def variables(self, *, ema: bool) -> dict[str, Any]:
        """What `model.apply` takes: the averaged weights, or the raw ones."""
        if ema:
            return {"params": self.ema_params, "batch_stats": self.ema_batch_stats}
        return {"params": self.params, "batch_stats": self.batch_stats}


def init_variables(model: nn.Module, seed: int) -> dict[str, Any]:
    """Freshly initialised variables of `model`, a pure function of the seed."""
    image = _image()
    # A program that runs once: to optimise its hundreds of draws takes longer than they do. As a
    # part of another program it has the options of that one.
    inside = isinstance(image, jax.core.Tracer)
    options = None if inside else {"xla_backend_optimization_level": 0}
    return jax.jit(model.init, compiler_options=options)(jax.random.key(seed), image)


def variable_shapes(model: nn.Module) -> dict[str, Any]:
    """Shapes of the variables of `model`, for which nothing is compiled."""
    return jax.eval_shape(model.init, jax.random.key(0), _image())


def create_state(variables: dict[str, Any], optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step; the averages start at the variables themselves."""
    # Copies, because the step donates its input: no buffer may be given away twice, and those of
    # the caller stay alive.
    own, averages = (jax.device_put(variables, may_alias=False) for _ in range(2))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=own["params"],
        batch_stats=own["batch_stats"],
        opt_state=optimizer.init(own["params"]),
        ema_params=averages["params"],
        ema_batch_stats=averages["batch_stats"],
    )


def _image() -> jax.Array:
    # The variables do not depend on the size.
    return jnp.zeros((1, 128, 128, 3), jnp.float32)
