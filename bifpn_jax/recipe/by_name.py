"""The recipes for ``--config=NAME``, by name: models, and recipes derived from them.

``NAME:WORDS`` gives the recipe its words: ``d1:debug``, ``finetune:lite0``, ``scaled:phi=1.5``.
"""

from collections.abc import Callable
from functools import partial

from ml_collections import ConfigDict

from bifpn_jax.models.scaling import MODELS
from bifpn_jax.named_parts import unknown
from bifpn_jax.recipe import base, finetune, quickstart, scaled

# A function of the words after the colon, None without a colon.
Recipe = Callable[..., ConfigDict]

RECIPES: dict[str, Recipe] = {
    **{name: partial(base.get_config, name) for name in MODELS},
    "finetune": finetune.get_config,
    "quickstart": quickstart.get_config,
    "scaled": scaled.get_config,
}


def recipe(name: str) -> Recipe:
    """Return the recipe of a name, the `get_config` of a config file.

    Raises:
        UserError: there is none; the message suggests the closest.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]


def get_config(arg: str) -> ConfigDict:
    """Return the config of "NAME" or "NAME:WORDS", so this file is a config for all recipes."""
    name, colon, words = arg.partition(":")
    return recipe(name)(*((words,) if colon else ()))
