"""Messages in the words of a command line.

The library names its arguments, ``bad_boxes=skip``, and what reads a config names its fields,
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
    """A message with the names of arguments and fields in it as flags.

    Args:
        message: of the library.
        names: flags by the names that they replace, from the functions below.
    """
    return _SWITCHED_ON.sub(r"\1", rename(message, names))


def flags_of_fields(config: Mapping[str, Any]) -> dict[str, str]:
    """Of a command with --config: the flag of every field, ``--config.data.bad_boxes``.

    An argument is called as the one field of its name; where there are several, messages must name
    the field.
    """
    names = dict(flat_fields(config, groups=True))
    flags = {f"config.{name}": f"--config.{name}" for name in names}
    leaves = [n for n, value in names.items() if not isinstance(value, ConfigDict | Mapping)]
    count = Counter(name.rpartition(".")[2] for name in leaves)
    single = {name.rpartition(".")[2]: name for name in leaves}
    return flags | {leaf: f"--config.{n}" for leaf, n in single.items() if count[leaf] == 1}


def flags_of_names(own: Mapping[str, str]) -> dict[str, str]:
    """Of a command with flags of its own.

    Args:
        own: the flag of an argument, {"class_names": "class_names"}, or of a field, by which an
            argument of that name is meant as well: {"data.eval_images": "images"}.
    """
    flags = {}
    for name, flag in own.items():
        flags[name.rpartition(".")[2]] = f"--{flag}"
        if "." in name:
            flags[f"config.{name}"] = f"--{flag}"
    return flags
