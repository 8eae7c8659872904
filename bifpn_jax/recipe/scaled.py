"""Any phi of the compound-scaling rule, and scaling by single factors (paper section 4, Figure 6).

    bifpn train --config=scaled:phi=1.5
    bifpn train --config=scaled:phi=-3,image_size=-1

After the colon: phi, and optionally a separate phi for single factors, which are backbone,
image_size, width, network_repeats and head_repeats. Below 0 the models are small enough for a
laptop. The released models have their own files, because they follow a table that only
approximates the rule.
"""

from ml_collections import ConfigDict

from bifpn_jax.errors import UserError
from bifpn_jax.models.scaling import FACTORS, compound_scaling, scaled_settings
from bifpn_jax.recipe import base


def get_config(arg: str | None = None) -> ConfigDict:
    """Return the recipe for a scaled model.

    Args:
        arg: "phi=1.5", with single factors "phi=0,width=2", and switches of
            `bifpn_jax.recipe.base`; phi is 0 by default.
    """
    words = base.split_words(arg)
    switches = [word for word in words if "=" not in word]
    factors = dict(_factor(word) for word in words if "=" in word)
    phi = factors.pop("phi", 0.0)
    config = base.get_config("d0")
    config.name = "_".join(["scaled", *(word.replace("=", "") for word in words)])
    config.model.update(scaled_settings(phi, **factors))
    config.model.survival_prob = 0.8 if phi > 0 else 1.0
    config.scaling = ConfigDict({"rule": compound_scaling(phi)._asdict(), "deviations": factors})
    base.apply_switches(config, ",".join(switches), [f"{name}=1" for name in ("phi", *FACTORS)])
    return config


def _factor(word: str) -> tuple[str, float]:
    name, _, value = word.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise UserError(
            f"{word}: {value!r} is not a number; write phi=1.5, for instance."
        ) from None
