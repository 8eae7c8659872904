"""``python -m bifpn_jax WORD`` is ``bifpn WORD``."""

from bifpn_jax.commands.bifpn import main

main()
