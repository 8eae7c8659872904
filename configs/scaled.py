"""Any phi of the compound scaling rule; see `bifpn_jax.recipe.scaled`."""

from bifpn_jax.recipe.by_name import recipe

get_config = recipe("scaled")
