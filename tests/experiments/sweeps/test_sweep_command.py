"""The command line of the sweep: what it prints, and what it refuses in one line."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def run_sweep_command(*words):
    return subprocess.run(
        [sys.executable, "-m", "experiments.sweep", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def test_the_command_prints_the_lines_and_makes_nothing(study_file, tmp_path):
    file, out = study_file(), tmp_path / "out"
    result = run_sweep_command(
        f"--config={file}:x y",
        f"--workdir={out}",
        "--seeds=1",
        "--rows=sum,wide",
        "--dry_run",
        "--noconfig.augment.flip",
        "--config.train.steps",
        "7",
    )
    assert result.stderr == ""
    assert result.returncode == 0
    rows = {"sum": "--config.model.fusion=sum", "wide": "--config.model.width=64"}
    assert [shlex.split(line)[1:] for line in result.stdout.splitlines()] == [
        [
            "-m",
            "experiments.main",
            f"--config={file}:x y",
            f"--workdir={out}/{row}/seed_1",
            "--config.seed=1",
            field,
            "--config.augment.flip=false",
            "--config.train.steps=7",
        ]
        for row, field in rows.items()
    ]
    assert not out.exists()


def test_a_wrong_network_is_one_line_before_anything_starts(study_file, tmp_path):
    text = "from bifpn_jax.recipe.quickstart import get_config\n"
    text += "def sweep(): return {'a': {}, 'mine': {'model.feature_network': '6:3,9'}}\n"
    file = study_file(text)
    result = run_sweep_command(f"--config={file}", f"--workdir={tmp_path}/out")
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: row mine of {file}: ")
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("typed", ["configs/quickstart.py", "d0:debug"])
def test_a_config_without_a_study_is_one_line(typed, tmp_path):
    result = run_sweep_command(f"--config={typed}", f"--workdir={tmp_path}/out")
    assert result.returncode == 2
    assert result.stderr == (
        f"error: --config={typed} is not a study: it has no sweep(); take "
        "--config=configs/ablations/fusion.py or another file of that folder, or train this "
        f"config by itself, bifpn train --config={typed}.\n"
    )
