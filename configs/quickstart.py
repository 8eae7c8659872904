"""A small EfficientDet on drawn shapes; see `bifpn_jax.recipe.quickstart`."""

from bifpn_jax.recipe.by_name import recipe

get_config = recipe("quickstart")
