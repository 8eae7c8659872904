"""Fine-tunes published weights on your own images; see `bifpn_jax.recipe.finetune`."""

from bifpn_jax.recipe.by_name import recipe

get_config = recipe("finetune")
