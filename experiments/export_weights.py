"""Writes a trained model as one file: its weights, its config and its classes.

    python -m experiments.export_weights --weights=runs/mine --output=mine.safetensors

The file stands for the workdir, or for whatever --weights names, wherever weights are asked for:
--weights of the other commands, --config.init_from, `bifpn_jax.load_weights`.
"""

import json
from pathlib import Path

from absl import flags

from bifpn_jax.errors import UserError
from bifpn_jax.weights import save_weights
from experiments import command, trained_model


def export(trained: trained_model.TrainedModel, path: Path) -> None:
    """Writes a trained model to a `.safetensors` file."""
    _check_name(path)
    config = trained.config.copy_and_resolve_references()
    metadata = {
        "config": config.to_json(),
        "label_map": json.dumps(trained.label_map.to_json()),
    }
    save_weights(path, trained.variables, metadata)


def _check_name(path: Path) -> None:
    if path.suffix != ".safetensors":
        raise UserError(f"--output={path}: let the name of the file end in .safetensors.")


def main(_: list[str]) -> None:
    """Runs the command."""
    path = Path(flags.FLAGS.output).expanduser()
    _check_name(path)
    if not path.parent.is_dir():
        raise UserError(f"--output={path}: there is no folder {path.parent}; make it first.")
    export(trained_model.load_from_flags(), path)
    print(path)


if __name__ == "__main__":
    trained_model.define_flags()
    flags.DEFINE_string("output", None, "The file to write, NAME.safetensors.", required=True)
    command.run(main)
