"""Configs to copy and change; `bifpn_jax.recipe` has what they are made of."""
