"""A grid runs to its end, whatever happens to single runs or to the sweep itself."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bifpn_jax.errors import UserError
from bifpn_jax.runs.interruption import Interrupted
from experiments.sweep import sweep
from experiments.sweeps.folder import locked

ROOT = Path(__file__).resolve().parents[3]


def test_all_runs_of_a_grid(make_study, fake_program, calls, tmp_path, capsys):
    out = tmp_path / "out"
    study = make_study({"train.batch_size": 8}, arg="x")
    assert sweep(study, out, seeds=[0, 1], program=fake_program()) == 0
    grid = ["sum/seed_0", "fast/seed_0", "wide/seed_0", "sum/seed_1", "fast/seed_1", "wide/seed_1"]
    assert calls() == grid
    assert json.loads((out / "sweep.json").read_text()) == {
        "config": study.file,
        "study": "tiny",
        "arg": "x",
        "overrides": ["--config.train.batch_size=8"],
        "rows": {"sum": {"model.fusion": "sum"}, "fast": {}, "wide": {"model.width": 64}},
        "seeds": [0, 1],
    }
    for name in grid:
        assert (out / name / "log.txt").read_text() == f"training {name}\n"
        assert (out / name / "checkpoints").is_dir()
    errors = capsys.readouterr().err
    assert "sum seed 1: AP 0.2500 in 0:00:0" in errors
    assert errors.endswith(f"6 of 6 runs are finished; they are in {out}\n")

    # Nothing is repeated.
    assert sweep(study, out, seeds=[0, 1], program=fake_program()) == 0
    assert calls() == []
    assert "6 of 6 runs are finished already" in capsys.readouterr().err


def test_a_failing_run_does_not_stop_the_others(make_study, fake_program, calls, tmp_path, capsys):
    actions = {"sum/seed_0": "fail", "fast/seed_0": "die", "wide/seed_0": "end"}
    out = tmp_path / "out"
    assert sweep(make_study(), out, seeds=[0, 1], program=fake_program(actions)) == 1
    assert len(calls()) == 6
    assert capsys.readouterr().err.splitlines()[-4:] == [
        f"3 of 6 runs are finished; they are in {out}",
        f"failed: sum seed 0: exit status 2: error: no images (see {out}/sum/seed_0/log.txt)",
        "failed: fast seed 0: killed by SIGKILL: training fast/seed_0 "
        f"(see {out}/fast/seed_0/log.txt)",
        "failed: wide seed 0: it ended before its last step: training wide/seed_0 "
        f"(see {out}/wide/seed_0/log.txt)",
    ]

    # They alone are tried again, and their output is appended.
    assert sweep(make_study(), out, seeds=[0, 1], program=fake_program()) == 0
    assert calls() == ["sum/seed_0", "fast/seed_0", "wide/seed_0"]
    assert (out / "sum/seed_0/log.txt").read_text().count("training") == 2


def test_a_run_that_cannot_even_start_is_a_failure(make_study, tmp_path, capsys):
    (tmp_path / "out" / "sum").mkdir(parents=True)
    (tmp_path / "out" / "sum" / "seed_0").touch()
    assert sweep(make_study(), tmp_path / "out", seeds=[0], program=["/no/such/program"]) == 1
    lines = capsys.readouterr().err.splitlines()[-3:]
    assert lines[0].startswith(f"failed: sum seed 0: exit status 1: {tmp_path}/out/sum/seed_0: ")
    assert "/no/such/program: No such file or directory" in lines[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_run_once_and_the_sweep_goes_on_later(
    make_study, fake_program, calls, wait_for, tmp_path, capsys, number
):
    out = tmp_path / "out"
    program = fake_program({"fast/seed_0": "wait"})

    def interrupt():
        wait_for(out / "fast/seed_0/waiting")
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Interrupted) as interrupted:
        sweep(make_study(), out, seeds=[0], program=program)
    thread.join()
    assert interrupted.value.args[0] == number
    assert calls() == ["sum/seed_0", "fast/seed_0"]
    saved = f"training fast/seed_0\nsaved after {number.name}\n"
    assert (out / "fast/seed_0/log.txt").read_text() == saved
    assert f"{number.name}: stopped with 1 of 3 runs finished" in capsys.readouterr().err

    assert sweep(make_study(), out, seeds=[0], program=fake_program()) == 0
    assert calls() == ["fast/seed_0", "wide/seed_0"]


def test_a_killed_sweep_goes_on_without_repeating_and_without_running_a_run_twice(
    make_study, study_file, fake_program, calls, wait_for, tmp_path
):
    out = tmp_path / "out"
    driver = f"""
import runpy
from pathlib import Path
from experiments.sweep import sweep
from experiments.sweeps.plan import Study, read_rows

file = {study_file()!r}
study = Study(file, runpy.run_path(file)["get_config"](), {{}}, read_rows(file))
sweep(study, Path({str(out)!r}), seeds=[0], program={fake_program({"fast/seed_0": "wait"})!r})
"""
    process = subprocess.Popen([sys.executable, "-c", driver], cwd=ROOT)
    left = int(wait_for(out / "fast/seed_0/waiting"))
    process.kill()
    process.wait()
    with pytest.raises(UserError, match=rf"pgrep -af -- --workdir={out}$"):
        sweep(make_study(), out, seeds=[0], program=fake_program())
    os.kill(left, signal.SIGTERM)
    for _ in range(100):
        try:
            with locked(out):
                break
        except UserError:
            threading.Event().wait(0.05)
    assert calls() == ["sum/seed_0", "fast/seed_0"]
    assert sweep(make_study(), out, seeds=[0], program=fake_program()) == 0
    assert calls() == ["fast/seed_0", "wide/seed_0"]


def test_longer_runs_go_on(make_study, fake_program, calls, tmp_path):
    out, program = tmp_path / "out", fake_program()
    assert sweep(make_study(), out, seeds=[0], program=program) == 0
    calls()
    longer = make_study({"train.steps": 6})
    fails = fake_program({"sum/seed_0": "fail"})
    assert sweep(longer, out, seeds=[0], program=fails) == 1
    assert calls() == ["sum/seed_0", "fast/seed_0", "wide/seed_0"]
    # What failed is no finished run of the shorter length either.
    assert not (out / "sum/seed_0/finished.json").exists()
    assert json.loads((out / "sweep.json").read_text())["overrides"] == ["--config.train.steps=6"]
    assert sweep(longer, out, seeds=[0], program=program) == 0
    assert calls() == ["sum/seed_0"]


def test_more_seeds_and_fewer_rows(make_study, fake_program, calls, tmp_path):
    out, program = tmp_path / "out", fake_program()
    assert sweep(make_study(), out, seeds=[0], rows=["sum"], program=program) == 0
    assert sweep(make_study(), out, seeds=[2, 0], rows=["sum", "fast"], program=program) == 0
    assert calls() == ["sum/seed_0", "sum/seed_2", "fast/seed_2", "fast/seed_0"]
    content = json.loads((out / "sweep.json").read_text())
    assert content["seeds"] == [0, 2]
    assert list(content["rows"]) == ["sum", "fast", "wide"]


def test_checkpoints_are_deleted_on_demand(make_study, fake_program, tmp_path):
    out = tmp_path / "out"
    program = fake_program({"wide/seed_0": "end"})
    assert sweep(make_study(), out, seeds=[0], rows=["sum"], program=program) == 0
    (out / "wide/seed_0/checkpoints").mkdir(parents=True)
    assert sweep(make_study(), out, seeds=[0], program=program, delete=True) == 1
    assert not (out / "sum/seed_0/checkpoints").exists()
    assert not (out / "fast/seed_0/checkpoints").exists()
    assert (out / "wide/seed_0/checkpoints").exists()  # not finished
    assert (out / "sum/seed_0/metrics.json").exists()


def test_a_dry_run_leaves_out_what_is_finished(make_study, fake_program, calls, tmp_path, capsys):
    out, program = tmp_path / "out", fake_program()
    assert sweep(make_study(), out, seeds=[0], rows=["sum", "wide"], program=program) == 0
    calls(), capsys.readouterr()
    assert sweep(make_study(), out, seeds=[0], program=("train",), dry_run=True) == 0
    file = make_study().file
    assert capsys.readouterr().out == (
        f"train --config={file} --workdir={out}/fast/seed_0 --config.seed=0\n"
    )
    assert calls() == []


def test_nothing_starts_where_a_row_is_wrong(make_study, fake_program, calls, tmp_path):
    study = make_study()
    study.rows["mine"] = {"model.feature_network": "6:3,9"}
    with pytest.raises(UserError, match=r"^row mine of "):
        sweep(study, tmp_path / "out", seeds=[0], program=fake_program())
    assert calls() == []
    assert not (tmp_path / "out").exists()
