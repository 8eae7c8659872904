"""Published weights: naming schemes of other code bases, and loading with a report."""

from bifpn_jax.weights.loading import LoadReport, load_weights

__all__ = ["LoadReport", "load_weights"]
