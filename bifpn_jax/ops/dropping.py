"""Which images of a batch keep a residual branch, for any number of devices sharing the batch."""

import jax
from jax import lax


def kept_images(
    rng: jax.Array, probability: float, batch: int, axis_name: str | None = None
) -> jax.Array:
    """Return independent draws for the images of a batch: bool [B, 1, 1, 1].

    The draw is made for the global batch and each replica takes its part, so training does not
    depend on how many devices share the batch.

    Args:
        rng: key, the same on all replicas.
        probability: the probability of keeping an image's branch.
        batch: B, the batch size of this replica.
        axis_name: mapped axis that splits the batch, or None.
    """
    if axis_name is None:
        return jax.random.bernoulli(rng, probability, (batch, 1, 1, 1))
    whole = (lax.axis_size(axis_name) * batch, 1, 1, 1)
    keep = jax.random.bernoulli(rng, probability, whole)
    return lax.dynamic_slice_in_dim(keep, lax.axis_index(axis_name) * batch, batch)
