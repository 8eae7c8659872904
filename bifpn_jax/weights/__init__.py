"""Published and own weights: reading them from files of any kind, with a report; writing them."""

from bifpn_jax.weights.loading import load_weights
from bifpn_jax.weights.published.catalog import weights_catalog
from bifpn_jax.weights.report import LoadReport
from bifpn_jax.weights.saving import save_weights

__all__ = ["LoadReport", "load_weights", "save_weights", "weights_catalog"]
