"""Writes a trained model to one file: its weights, its config and its classes.

    bifpn export --weights=runs/mine --output=mine.safetensors

The file can replace the workdir, or whatever --weights names, wherever weights are expected:
--weights of the other commands, --config.init_from, `bifpn_jax.load_detector`.
"""

from pathlib import Path

from absl import flags

from bifpn_jax.command_line import trained_model
from bifpn_jax.errors import UserError
from bifpn_jax.trained import save_detector

FLAG_NAMES = trained_model.FLAG_NAMES


def define_flags() -> None:
    """Defines the flags of this command."""
    trained_model.define_flags()
    flags.DEFINE_string("output", None, "The file to write, NAME.safetensors.", required=True)


def main(_: list[str]) -> None:
    """Runs the command."""
    path = Path(flags.FLAGS.output).expanduser()
    if path.suffix != ".safetensors":
        raise UserError(f"--output={path}: the file name must end in .safetensors.")
    if not path.parent.is_dir():
        raise UserError(f"--output={path}: there is no folder {path.parent}; make it first.")
    save_detector(path, trained_model.load_from_flags())
    print(path)
