"""Rewrites messages in terms of a command's flags.

The library names its arguments, ``bad_boxes=skip``, and code that reads a config names its fields,
``config.data.bad_boxes=skip``. Here both become what the user of a command would write.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from bifpn_jax.errors import rename
from bifpn_jax.recipe.fields import flat_fields

_SWITCHED_ON = re.compile(r"(--(?!config\.)\w+)=True\b")


def in_flags(message: str, names: Mapping[str, str]) -> str:
    """Return a message with the names of arguments and fields replaced by flags.

    Args:
        message: a message of the library.
        names: flags by the names that they replace, from the functions below.
    """
    return _SWITCHED_ON.sub(r"\1", rename(message, names))


def flags_of_fields(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the flag of every field, ``--config.data.bad_boxes``, for a command with --config.

    An argument gets the flag of the only field of its name; if there are several such fields,
    messages must name the field.
    """
    names = dict(flat_fields(config, groups=True))
    flags = {f"config.{name}": f"--config.{name}" for name in names}
    leaves = [n for n, value in names.items() if not isinstance(value, ConfigDict | Mapping)]
    count = Counter(name.rpartition(".")[2] for name in leaves)
    single = {name.rpartition(".")[2]: name for name in leaves}
    return flags | {leaf: f"--config.{n}" for leaf, n in single.items() if count[leaf] == 1}


def flags_of_names(own: Mapping[str, str]) -> dict[str, str]:
    """Return the flags of a command that defines its own.

    Args:
        own: the flag of an argument, {"class_names": "class_names"}, or of a field, which then also
            stands for the argument of that name: {"data.eval_images": "images"}.
    """
    flags = {}
    for name, flag in own.items():
        flags[name.rpartition(".")[2]] = f"--{flag}"
        if "." in name:
            flags[f"config.{name}"] = f"--{flag}"
    return flags
