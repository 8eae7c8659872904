"""The console script ``bifpn WORD``, also ``python -m bifpn_jax WORD``."""

import importlib
import signal
import sys
from typing import NamedTuple

from bifpn_jax.command_line.process_memory import restart_with_huge_pages
from bifpn_jax.named_parts import unknown


class Command(NamedTuple):
    """The module of a command, and its one-line description."""

    module: str
    summary: str


COMMANDS = {
    "train": Command("train", "Train a detector and evaluate it, as a config says."),
    "eval": Command("evaluate", "Evaluate a trained detector on a COCO-format dataset."),
    "predict": Command("predict", "Find objects in images and draw them."),
    "inspect": Command("inspect_data", "Look at a dataset as training sees it."),
    "weights": Command("fetch_weights", "List and download published weights."),
    "export": Command("export_weights", "Write a trained detector as one file."),
    "draw": Command("draw_network", "Draw feature networks as in the paper's Figure 2."),
}

_HELP = ("help", "-h", "--help", "--helpshort", "--helpfull")


def main() -> None:
    """Run the command that the first word of the command line names."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name == "--version":
        from bifpn_jax import __version__

        print(f"bifpn_jax {__version__}")
        return
    if not name or name in _HELP:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # the reader may go away: … | head
        print(_overview())
        sys.exit(0 if name else 2)
    if name not in COMMANDS:
        print(f"error: {unknown('command', name, COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    # First, because restarting is cheapest before the imports.
    restart_with_huge_pages()
    run(name, sys.argv[2:])


def run(name: str, words: list[str]) -> None:
    """Run one of `COMMANDS` with the words that follow its name, then end the process."""
    _say_loading()
    sys.argv = [f"bifpn {name}", *words]
    from bifpn_jax.command_line import command

    module = importlib.import_module(f"bifpn_jax.commands.{COMMANDS[name].module}")
    module.define_flags()
    command.run(
        module.main,
        arguments=getattr(module, "ARGUMENTS", ""),
        flag_names=getattr(module, "FLAG_NAMES", None),
    )


def _say_loading() -> None:
    """During imports, which take seconds, lets Ctrl-C end the process and shows a message."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.stderr.isatty():
        sys.stderr.write("loading …\r")
        sys.stderr.flush()


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {entry.summary}" for name, entry in COMMANDS.items()]
    return "\n".join(
        [
            "bifpn COMMAND [--name=value …]",
            "",
            "EfficientDet for JAX.",
            "",
            "Commands:",
            *lines,
            "",
            "`bifpn COMMAND --help` lists the flags of a command.",
        ]
    )
