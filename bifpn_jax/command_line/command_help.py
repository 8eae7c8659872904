"""The output of ``--help``: what a command does, how it is called, and its own flags."""

import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags

_HELP = re.compile("--?(h|help|helpshort|helpfull)(=.*)?")


def asks_for_help(words: Sequence[str]) -> bool:
    """Whether a command line asks for help."""
    options = words[: words.index("--")] if "--" in words else words
    return any(map(_HELP.fullmatch, options))


def command_help(description: str, arguments: str = "", *, full: bool = False) -> str:
    """Return the help text for a terminal.

    Args:
        description: what the command does, the docstring of its module.
        arguments: the name of the positional arguments, such as "IMAGE".
        full: also list the flags of the libraries.
    """
    given = own_flags()
    call = [program_name()]
    call += [f"--{flag.name}=…" for flag in given if is_required(flag)]
    call += ["[--name=value …]", *([f"[{arguments} …]"] if arguments else [])]
    lines = [" ".join(call), "", description.replace("``", "").strip(), ""]
    if "config" in flags.FLAGS:
        lines += ["Flags; --help_config lists the fields of the config:"]
    else:
        lines += ["Flags:"]
    for flag in given:
        lines += _flag_lines(flag)
    if full:
        lines += ["", "Flags of the libraries:", flags.FLAGS.get_help()]
    return "\n".join(lines)


def program_name() -> str:
    """Return how this program is called: "bifpn train", "python -m experiments.tables"."""
    if sys.argv[0].startswith("bifpn "):
        return sys.argv[0]
    spec = sys.modules["__main__"].__spec__
    if spec:
        return f"python -m {spec.name}"
    parts = Path(sys.argv[0]).resolve().with_suffix("").parts
    inside = parts[parts.index("experiments") + 1 :] if "experiments" in parts else parts[-1:]
    return f"python -m {'.'.join(('experiments', *inside))}"


def own_flags() -> list[flags.Flag]:
    """Return the flags that this command and the shared modules define."""
    of_module = flags.FLAGS.flags_by_module_dict()
    mine = [
        flag
        for module in sorted(of_module, key=lambda module: not _is_command(module))
        if _is_command(module) or module.startswith(("bifpn_jax.command_line.", "experiments."))
        for flag in of_module[module]
    ]
    return sorted(mine, key=lambda flag: not is_required(flag))


def _is_command(module: str) -> bool:
    return module == sys.argv[0] or module.startswith("bifpn_jax.commands.")


def is_required(flag: flags.Flag) -> bool:
    """Whether a flag is required."""
    # absl stores this as one of the validators of a value.
    return any("other than None" in validator.message for validator in flag.validators)


def _flag_lines(flag: flags.Flag) -> Iterator[str]:
    written = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}={_value(flag)}"
    yield f"  {written}"
    choices = f"<{_value(flag)}>: "  # absl prepends this to the help of an enum
    text = " ".join(filter(None, [flag.help.removeprefix(choices), _default(flag)]))
    yield from textwrap.wrap(text, 80, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _value(flag: flags.Flag) -> str:
    """Return what follows the "=": gaussian|hard, NUMBER, ITEM,ITEM,… or TEXT."""
    kind = flag.parser.flag_type()
    if isinstance(flag.parser, flags.EnumParser):
        return "|".join(flag.parser.enum_values)
    if kind in ("int", "float"):
        return "NUMBER"
    if "list" in kind:
        return "ITEM,ITEM,…"
    return "FILE" if flag.name == "config" else "TEXT"


def _default(flag: flags.Flag) -> str:
    value: Any = flag.default
    if is_required(flag):
        return "(required)"
    if flag.boolean:
        return f"(default: {str(value).lower()})"
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    return "" if value in (None, "") else f"(default: {value})"
