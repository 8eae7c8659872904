"""Trains and evaluates: ``python -m experiments.main --config=configs/d1.py --workdir=runs/d1``.

Every field of the config can be set, ``--config.train.batch_size=32``; a word after a colon changes
several, ``--config=configs/d1.py:debug``. Started again with the same workdir, the run is resumed.

On many machines, run the same command in every process. It is identified by a scheduler that JAX
knows, or else by ``--coordinator_address``, ``--process_id`` and ``--process_count``.

The exit status is 0 when the run is complete, 2 for an error that the user can fix, 75 after Ctrl-C
or SIGTERM, with everything saved, and 76 if another process of the run is gone. During compilation
both signals end the command at once, because nothing was trained since the last save.
"""

from absl import flags

from bifpn_jax.command_line import command, process_flags
from bifpn_jax.command_line.download_consent import ask_before_download, define_download_flag
from bifpn_jax.command_line.trained_model import define_trust_flag
from bifpn_jax.recipe.checks import check_config
from bifpn_jax.runs.waiting import Waits
from bifpn_jax.train.devices import process_index

FLAGS = flags.FLAGS

FLAG_NAMES = {**process_flags.FLAG_NAMES, "trust_code": "trust_code"}


def define_flags() -> None:
    """Define the flags of this command."""
    command.define_config_flag()
    define_download_flag()
    process_flags.define_process_flags()
    define_trust_flag()
    flags.DEFINE_string("workdir", "", "Folder of the run; by default runs/NAME.")


def main(_: list[str]) -> None:
    """Run the command."""
    check_config(FLAGS.config)
    process_flags.start_from_flags()
    Waits(enabled=process_index() == 0 and FLAGS.config.log.progress).say("loading the program")
    from bifpn_jax.runs.loop import train_and_evaluate

    ask_before_download(FLAGS.config.data, FLAGS.download)
    workdir = FLAGS.workdir or f"runs/{FLAGS.config.name}"
    train_and_evaluate(FLAGS.config, workdir, trust_code=FLAGS.trust_code)
