"""Configurations: one short file per run, all on the base in `bifpn_jax.recipe.base`."""
