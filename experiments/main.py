"""Trains and evaluates: ``python -m experiments.main --config=configs/d1.py --workdir=runs/d1``.

Every field of the config can be set, ``--config.train.batch_size=32``; a word after a colon changes
several, ``--config=configs/d1.py:debug``. Started again with the same workdir, the run goes on. On
Ctrl-C or SIGTERM it saves and leaves with status 128 + the signal's number.
"""

import sys

from absl import flags

from bifpn_jax.errors import UserError
from experiments import command

FLAGS = flags.FLAGS


def main(_: list[str]) -> int:
    """Runs the command."""
    from experiments.train import Interrupted, train_and_evaluate

    _offer_download(FLAGS.config.data)
    workdir = FLAGS.workdir or f"runs/{FLAGS.config.name}"
    try:
        train_and_evaluate(FLAGS.config, workdir)
    except Interrupted as interrupted:
        return 128 + interrupted.args[0]
    return 0


def _offer_download(data: dict) -> None:
    """Says what COCO costs, and goes on only with consent."""
    if data.source != "coco2017" or FLAGS.download:
        return
    from bifpn_jax.data.coco2017 import download_plan

    plan = download_plan(data.data_dir or None)
    if plan is None:
        return
    print(plan)
    instead = (
        "use a local copy (--config.data.source=coco_json --config.data.train_images=DIR "
        "--config.data.train_annotations=FILE --config.data.eval_images=DIR "
        "--config.data.eval_annotations=FILE) or drawn images (--config.data.source=shapes)"
    )
    if not sys.stdin.isatty():
        raise UserError(
            f"COCO 2017 is not here: agree to the download with --download, or {instead}."
        )
    if input("Download it now? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UserError(f"without COCO 2017, {instead}.")


if __name__ == "__main__":
    command.define_config_flag()
    flags.DEFINE_string("workdir", "", "Folder of the run; by default runs/NAME.")
    flags.DEFINE_bool("download", False, "Download COCO 2017 without asking if it is not there.")
    command.run(main)
