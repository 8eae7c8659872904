"""How training scales with the number of devices: counted from its program, timed by a cost model.

    python -m experiments.performance.device_scaling --output=docs
    python -m experiments.performance.device_scaling --models=d0,d7x --output=runs/scaling

Writes scaling.md, and scaling/counts.json with the counts of the data-parallel step of each model
on eight virtual CPU devices. Models that are in that file are not counted again, so a run can be
stopped and continued; delete the file to start over. No accelerator is needed, and none is
measured.
"""

import sys
from pathlib import Path

import jax
from absl import flags

from bifpn_jax.command_line import command
from bifpn_jax.errors import UserError
from bifpn_jax.json_files import read_json, replace_text, write_json
from bifpn_jax.models.scaling import MODELS
from experiments.paper import counts
from experiments.performance.data_parallel import page
from experiments.performance.data_parallel.counting import Counts, compile_released, count_released

FLAGS = flags.FLAGS

COUNTS_FILE = "scaling/counts.json"
PAGE_FILE = "scaling.md"
COMMAND = "python -m experiments.performance.device_scaling --output=docs"
DEVICES = 8
BATCH_SIZES = (4, 8)  # images per device; 4 is the paper's, 128 on 32 cores
DETECTORS = [name for name, model in MODELS.items() if model.phi is not None]


def main(_: list[str]) -> None:
    """Run the command."""
    for flag in ("models", "compile"):
        for name in FLAGS[flag].value:
            if name not in DETECTORS:
                raise UserError(f"--{flag}: there is no {name}; there are {', '.join(DETECTORS)}.")
    output = command.make_folder(FLAGS.output)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", DEVICES)
    found = update_counts(output / COUNTS_FILE, FLAGS.models, FLAGS.compile)
    path = replace_text(output / PAGE_FILE, page_of(found))
    print(f"the page is in {path}, the counts of {', '.join(found)} in {output / COUNTS_FILE}")


def update_counts(path: Path, models: list[str], compiled: list[str]) -> dict[str, Counts]:
    """Count the models that the file lacks, and write the file after each.

    Args:
        path: the JSON file, which need not exist.
        models: models to count.
        compiled: models to compile as well, for the smallest batch.

    Returns:
        The content of the file: model -> counts.
    """
    found: dict[str, Counts] = read_json(path) if path.exists() else {}
    for name in [name for name in DETECTORS if name in (*models, *compiled)]:
        if name not in found:
            print(f"{name}: counts …", file=sys.stderr, flush=True)
            found[name] = count_released(name, BATCH_SIZES)
            write_json(path, _in_order(found))
        if name in compiled and "compiled" not in found[name]:
            print(f"{name}: compiles …", file=sys.stderr, flush=True)
            found[name]["compiled"] = compile_released(name, BATCH_SIZES[0])
            write_json(path, _in_order(found))
    return _in_order(found)


def page_of(found: dict[str, Counts]) -> str:
    """Return the page for some counts."""
    return page.render(found, counts.released_config("d0"), COMMAND)


def _in_order(found: dict[str, Counts]) -> dict[str, Counts]:
    return {name: found[name] for name in DETECTORS if name in found}


if __name__ == "__main__":
    flags.DEFINE_list("models", DETECTORS, "Released models to count.")
    flags.DEFINE_list("compile", [], "Models to compile as well, minutes for each.")
    flags.DEFINE_string("output", "runs/scaling", "Folder for the page and the counts.")
    command.run(main)
