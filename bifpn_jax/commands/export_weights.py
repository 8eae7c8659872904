"""Writes a trained model to one file, by default its weights, its config and its classes.

    bifpn export --weights=runs/mine --output=mine.safetensors

The `.safetensors` can replace the workdir, or whatever --weights names, wherever weights are
expected: --weights of the other commands, --config.init_from, `bifpn_jax.load_detector`. --format
selects another format, such as your own: --format=my_export.py:npz.
"""

from absl import flags

from bifpn_jax.command_line import trained_model
from bifpn_jax.exporting import EXPORTERS, export_detector, find_exporter, output_path
from bifpn_jax.named_parts import trust_code

FLAG_NAMES = {**trained_model.FLAG_NAMES, "path": "output", "format": "format"}


def define_flags() -> None:
    """Define the flags of this command."""
    trained_model.define_flags()
    flags.DEFINE_string(
        "output", None, "The file to write, NAME.safetensors by default.", required=True
    )
    flags.DEFINE_string(
        "format",
        "safetensors",
        f"Format of the file: {', '.join(EXPORTERS)}, or code of your own, FILE.py:NAME.",
    )


def main(_: list[str]) -> None:
    """Run the command."""
    given = flags.FLAGS
    # Who names code on the command line means it.
    trust_code(given.format)
    exporter = find_exporter(given.format)
    path = output_path(given.output, exporter)
    export_detector(trained_model.load_from_flags(), path, format=given.format)
    print(path)
