"""The state that a training step reads and updates."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

# Which weights of a state may be evaluated, and the `ema` of `TrainState.variables` for each.
EVALUATED = {"ema": (True,), "raw": (False,), "both": (True, False)}


class TrainState(flax.struct.PyTreeNode):
    """The state of a run; every leaf is a jax array.

    Attributes:
        step: [] int32, updates made so far.
        params: trainable parameters, float32.
        batch_stats: running mean and variance of every batch norm.
        opt_state: state of the optimizer.
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
        """Return the variables for `model.apply`: the averaged weights, or the raw ones."""
        if ema:
            return {"params": self.ema_params, "batch_stats": self.ema_batch_stats}
        return {"params": self.params, "batch_stats": self.batch_stats}


def create_state(variables: dict[str, Any], optimizer: optax.GradientTransformation) -> TrainState:
    """Return the state before the first step; the averages start at the variables themselves."""
    # Copies, because the step donates its input: no buffer may be donated twice, and the caller's
    # buffers must stay alive.
    own, averages = (jax.device_put(variables, may_alias=False) for _ in range(2))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=own["params"],
        batch_stats=own.get("batch_stats", {}),
        opt_state=optimizer.init(own["params"]),
        ema_params=averages["params"],
        ema_batch_stats=averages.get("batch_stats", {}),
    )
