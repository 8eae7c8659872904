r"""Runs a study: each row with each seed, one run after another.

    python -m experiments.sweep --config=configs/ablations/fusion.py:shapes --workdir=runs/fusion

A run's folder is DIR/ROW/seed_N, with its output in log.txt; DIR/sweep.json describes the sweep.
Errors in a row are reported before anything is trained. A run that fails does not stop the others.
On Ctrl-C or SIGTERM the current run saves a checkpoint, and the same command resumes it later;
finished runs are not repeated, unless a higher --config.train.steps makes them longer.

--dry_run prints the command lines. --launcher=slurm submits each run with launch/slurm.sh.
"""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from bifpn_jax.command_line import command
from bifpn_jax.command_line.download_consent import ask_before_download, define_download_flag
from experiments.sweeps.folder import (
    LOG_FILE,
    check_earlier,
    delete_checkpoints,
    describe,
    is_finished,
    join,
    locked,
    write_description,
)
from experiments.sweeps.launchers import FOREGROUND, LAUNCHERS, find_launcher, submit_all
from experiments.sweeps.plan import PROGRAM, Study, parse_seeds, plan_runs, read_rows
from experiments.sweeps.running import failed_line, run_all

FLAGS = flags.FLAGS


def sweep(
    study: Study,
    workdir: Path,
    *,
    seeds: Sequence[int],
    rows: Sequence[str] = (),
    launcher: str = "",
    dry_run: bool = False,
    delete: bool = False,
    program: Sequence[str] = PROGRAM,
    words: Sequence[str] = (),
    launchers: Path = LAUNCHERS,
) -> int:
    """Run everything in a grid that is not finished.

    Args:
        study: the grid.
        workdir: folder of the sweep.
        seeds: seeds of each row.
        rows: names of rows to run; empty for all.
        launcher: name of a script in launch/; "" to run here.
        dry_run: only print the command lines.
        delete: whether to delete the checkpoints of finished runs.
        program: the training command; it takes the flags of `experiments.main`.
        words: flags to add to each command.
        launchers: the folder of the launchers.

    Returns:
        The exit status: 0, or 1 if a run failed.

    Raises:
        UserError: the plan has an error; raised before anything is started.
        Interrupted: after SIGINT or SIGTERM.
    """
    before = find_launcher(launcher, launchers)
    runs = plan_runs(study, workdir, seeds=seeds, rows=rows, program=program, words=words)
    description = join(workdir, describe(study, seeds))
    for run in runs:
        check_earlier(run)
    if dry_run:
        for run in runs:
            if not is_finished(run):
                print(shlex.join([*before, *run.command]))
        return 0
    with locked(workdir) as lock:
        write_description(workdir, description)
        if launcher in FOREGROUND:
            failures = run_all(runs, before=before, lock=lock, delete=delete)
        else:
            waiting = [run for run in runs if not is_finished(run)]
            if delete:
                for run in filter(is_finished, runs):
                    delete_checkpoints(run)
            failures = submit_all(waiting, before=before, lock=lock)
            print(
                f"{len(waiting) - len(failures)} runs submitted, {len(runs) - len(waiting)} "
                f"finished; their output goes to {workdir}/ROW/seed_N/{LOG_FILE}, and the same "
                "command submits what is not finished then"
            )
            return 1 if failures else 0
    finished = len(runs) - len(failures)
    print(f"{finished} of {len(runs)} runs are finished; they are in {workdir}", file=sys.stderr)
    for failure in failures:
        print(failed_line(failure), file=sys.stderr)
    return 1 if failures else 0


def main(_: list[str]) -> int:
    """Run the command."""
    file = config_flags.get_config_filename(FLAGS["config"])
    overrides = config_flags.get_override_values(FLAGS["config"])
    study = Study(file, FLAGS.config, dict(overrides), read_rows(file))
    seeds = parse_seeds(FLAGS.seeds)
    workdir = Path(FLAGS.workdir or f"runs/{Path(file.partition(':')[0]).stem}").expanduser()
    words = ["--download"] if FLAGS.download else []
    if not FLAGS.dry_run and study.config.data.source == "coco2017":
        ask_before_download(study.config.data, FLAGS.download)
        words = ["--download"]  # A run cannot prompt the user.
    return sweep(
        study,
        workdir,
        seeds=seeds,
        rows=FLAGS.rows,
        launcher=FLAGS.launcher,
        dry_run=FLAGS.dry_run,
        delete=FLAGS.delete_checkpoints,
        words=words,
    )


if __name__ == "__main__":
    command.define_config_flag()
    define_download_flag()
    flags.DEFINE_string("workdir", "", "Folder of the sweep; by default runs/NAME of the file.")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of each row.")
    flags.DEFINE_list("rows", [], "Rows of the study; by default all.")
    flags.DEFINE_bool("dry_run", False, "Print the command lines of the runs, and run nothing.")
    flags.DEFINE_string("launcher", "", "Script in launch/ that gets each run: local, slurm, ….")
    flags.DEFINE_bool(
        "delete_checkpoints",
        False,
        "Delete the checkpoints of finished runs; one that is made longer then starts anew.",
    )
    command.run(main)
