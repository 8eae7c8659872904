"""Checks the values of a command's own flags; errors say what is allowed."""

import math
import re

from absl import flags

from bifpn_jax.command_line.command_help import is_required, own_flags
from bifpn_jax.errors import UserError


def check_values() -> None:
    """Check the values that the command line gave to the command's own flags.

    An empty value usually comes from an unset shell variable, and would silently mean the default.

    Raises:
        UserError: a value is empty or not finite.
    """
    for flag in own_flags():
        if flag.present and flag.value in ("", []):
            without = "" if is_required(flag) else ", or leave it out"
            raise UserError(f"--{flag.name}= is empty; give it a value{without}.")
        if isinstance(flag.value, float) and not math.isfinite(flag.value):
            raise UserError(f"--{flag.name}={flag.value}: {_wanted(flag)}.")


def explain_flag(message: str) -> str:
    """Return what is wrong with a value, from absl's message about one of the command's flags."""
    found = re.match(r"--(\w+)=.*?: ", message)
    wanted = [_wanted(flag) for flag in own_flags() if found and flag.name == found[1]]
    return f"{found[0]}{wanted[0]}." if any(wanted) else message


def _wanted(flag: flags.Flag) -> str:
    """Return what a flag takes, "give a number from 0 to 1"; "" if there is nothing to say."""
    parser = flag.parser
    if flag.boolean:
        return "give true or false"
    if isinstance(parser, flags.EnumParser):
        return f"give {' or '.join(parser.enum_values)}"
    kind = {"int": "a whole number", "float": "a number"}.get(parser.flag_type(), "")
    if not kind or parser.lower_bound is None:
        return kind and f"give {kind}"
    if parser.upper_bound is None:
        return f"give {kind}, at least {parser.lower_bound:g}"
    return f"give {kind} from {parser.lower_bound:g} to {parser.upper_bound:g}"
