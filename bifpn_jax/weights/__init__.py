"""Reading published and own weights from files of any format, with a report; writing them."""

from bifpn_jax.weights.loading import load_weights
from bifpn_jax.weights.published.catalog import weights_catalog
from bifpn_jax.weights.report import LoadReport
from bifpn_jax.weights.saving import save_weights

__all__ = ["LoadReport", "load_weights", "save_weights", "weights_catalog"]
