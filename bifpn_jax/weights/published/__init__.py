"""The catalog of published weights, and downloading them."""
