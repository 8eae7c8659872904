"""Reading the folders of studies and runs: what counts, what is left out, what is refused."""

import json
import shutil
from pathlib import Path

import pytest

from bifpn_jax.errors import UserError
from bifpn_jax.json_files import read_json
from experiments.paper.finished_runs import read_lines, read_results, read_study

LOGS = Path(__file__).resolve().parent / "study_logs"
FUSION, SCALING = LOGS / "fusion", LOGS / "scaling"


@pytest.fixture
def copy(tmp_path):
    """Copies a study to a folder that may be written to."""

    def copied(folder):
        return Path(shutil.copytree(folder, tmp_path / folder.name))

    return copied


def change(path, **values):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **values}))


def test_a_study():
    study = read_study(FUSION)
    assert (study.name, study.config_file) == ("fusion", "configs/ablations/fusion.py:shapes")
    assert {row: sorted(runs) for row, runs in study.runs.items()} == {
        "sum": [0],
        "softmax": [0, 1, 2],
        "fast": [0, 1, 2],
    }
    assert study.ap("softmax").values == pytest.approx((0.30, 0.32, 0.34))
    assert study.ap("sum").n == 1
    assert study.ap("unheard_of") is None
    assert study.left_out == ("sum/seed_1 stopped at step 20", "sum/seed_2 not started")
    run = study.runs["fast"][2]
    assert (run.folder, run.num_classes, run.seconds) == (FUSION / "fast" / "seed_2", 4, 20.0)


def test_runs_that_are_not_over_are_left_out(copy):
    folder = copy(FUSION)
    (folder / "sum" / "seed_1" / "metrics.jsonl").write_text("")
    change(folder / "softmax" / "seed_0" / "finished.json", step=30)
    change(folder / "softmax" / "seed_1" / "metrics.json", step=30)
    change(folder / "softmax" / "seed_2" / "metrics.json", AP=None)
    study = read_study(folder)
    assert study.ap("softmax") is None
    assert study.left_out == (
        "sum/seed_1 stopped before its first step",
        "sum/seed_2 not started",
        "softmax/seed_0 stopped at step 30 of 40",
        "softmax/seed_1 ends at step 40 but metrics.json is of step 30",
        "softmax/seed_2 has no AP, its evaluation data has no objects",
    )


def test_seeds_that_were_added_later_count(copy):
    folder = copy(FUSION)
    shutil.copytree(folder / "fast" / "seed_0", folder / "fast" / "seed_7")
    assert read_study(folder).ap("fast").values == pytest.approx((0.40, 0.41, 0.42, 0.40))


def test_runs_of_different_configs_in_one_row_are_refused(copy):
    folder = copy(FUSION)
    for file in ("finished.json", "metrics.json"):
        change(folder / "fast" / "seed_1" / file, step=80)
    change(folder / "fast" / "seed_1" / "config.json", train={"batch_size": 8, "steps": 80})
    with pytest.raises(UserError) as error:
        read_study(folder)
    assert str(error.value) == (
        f"{folder}/fast/seed_0 and {folder}/fast/seed_1 are not comparable, their configs differ: "
        "train.steps 40 and 80. Run one of them again, or give them apart."
    )


def test_rows_may_differ_in_what_the_sweep_sets_only(copy):
    folder = copy(SCALING)
    for seed in (0, 1):
        change(folder / "width_1" / f"seed_{seed}" / "config.json", train={"steps": 20})
    with pytest.raises(UserError, match=r"base/seed_0 and .*width_1/seed_0 are not comparable.*20"):
        read_study(folder)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda f: (f / "sweep.json").write_text("{"), r"sweep\.json is not valid JSON"),
        (lambda f: (f / "sweep.json").write_text("{}"), r"is not what experiments\.sweep writes"),
        (lambda f: (f / "sweep.json").write_text("[]"), r"is not what experiments\.sweep writes"),
        (lambda f: (f / "sweep.json").unlink(), r"no sweep\.json in .*; give|no sweep\.json in"),
        (lambda f: (f / "fast/seed_0/metrics.json").unlink(), r"cannot read .*metrics\.json"),
        (
            lambda f: (f / "fast/seed_0/config.json").write_text("{}"),
            "seed_0 is not the workdir of a training run",
        ),
        (
            lambda f: (f / "sum/seed_1/metrics.jsonl").write_text("x\n"),
            r"metrics\.jsonl, line 1: not a JSON object with a step",
        ),
    ],
)
def test_folders_that_cannot_be_read(copy, break_it, message):
    folder = copy(FUSION)
    break_it(folder)
    with pytest.raises(UserError, match=message) as error:
        read_results([folder])
    assert "\n" not in str(error.value)


def test_folders_of_something_else(tmp_path):
    with pytest.raises(UserError, match=r"no sweep\.json in .*absent: there is no such folder"):
        read_results([tmp_path / "absent"])
    with pytest.raises(UserError, match=r"the --workdir of experiments\.sweep, or the workdir"):
        read_results([tmp_path])
    with pytest.raises(UserError, match=f"these folders in it have one: .*{FUSION}"):
        read_results([LOGS])
    with pytest.raises(UserError, match="are both of the study 'fusion': give one at a time"):
        read_results([FUSION, FUSION])
    with pytest.raises(UserError, match="this run stopped at step 20; let it finish"):
        read_results([FUSION / "sum" / "seed_1"])


def test_lines_of_a_log(tmp_path):
    log = tmp_path / "metrics.jsonl"
    lines = ['{"step": 10, "x": 1}', '{"step": 20, "x": 2}', '{"step": 10, "x": 3}', '{"step": 3']
    log.write_text("\n".join(lines))  # repeated after a resume, killed while writing
    assert read_lines(log) == [{"step": 10, "x": 3}, {"step": 20, "x": 2}]
    with pytest.raises(UserError, match=r"cannot read .*absent"):
        read_lines(tmp_path / "absent")
    with pytest.raises(UserError, match=r"cannot read .*absent"):
        read_json(tmp_path / "absent")
