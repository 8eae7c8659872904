"""Configs to copy and change; they are built from `bifpn_jax.recipe`."""
