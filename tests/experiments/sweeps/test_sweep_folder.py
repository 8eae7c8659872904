"""A folder holds one sweep: what would make it another one is refused, with what differs."""

import json
import os

import pytest

from bifpn_jax.errors import UserError
from experiments.sweeps.folder import (
    check_earlier,
    describe,
    forget_finished,
    is_finished,
    join,
    locked,
    write_description,
)
from experiments.sweeps.plan import plan_runs


@pytest.fixture
def plan(make_study, tmp_path):
    """The run of the row `fast` with overrides."""

    def make(overrides=None):
        return plan_runs(make_study(overrides), tmp_path, seeds=[0], rows=["fast"])[0]

    return make


def leave(run, *, finished=None):
    """The files of a run that was started with this config."""
    run.workdir.mkdir(parents=True, exist_ok=True)
    (run.workdir / "config.json").write_text(run.config.to_json())
    if finished is not None:
        content = {"step": finished, "seconds": 1.0}
        (run.workdir / "finished.json").write_text(json.dumps(content))


def test_what_may_change(make_study, tmp_path):
    old = describe(make_study({"train.batch_size": 8, "train.steps": 4}), [0, 1])
    assert join(tmp_path, old) == old
    write_description(tmp_path, old)
    assert join(tmp_path, old) == old
    new = {"train.batch_size": 8, "train.steps": 9, "log.every_steps": 1, "eval.batch_size": 2}
    study = make_study(new)
    study.rows.pop("sum")
    study.rows["new"] = {"model.image_hw": (64, 64)}
    joined = join(tmp_path, describe(study, [5, 1]))
    assert joined["seeds"] == [0, 1, 5]
    assert list(joined["rows"]) == ["sum", "fast", "wide", "new"]
    assert joined["rows"]["new"] == {"model.image_hw": [64, 64]}
    assert joined["overrides"] == study.override_flags


def test_another_sweep_is_refused_with_what_differs(make_study, tmp_path):
    write_description(tmp_path, describe(make_study({"train.batch_size": 8}), [0]))
    study = make_study({"eval.sigma": 0.3}, arg="x")
    study.rows["wide"] = {"model.width": 80}
    study.rows["sum"] = {}
    with pytest.raises(UserError) as error:
        join(tmp_path, describe(study, [0]))
    file = study.file.partition(":")[0]
    assert str(error.value) == (
        f"{tmp_path} holds another sweep: --config={file}:x (it was {file}); "
        "--config.eval.sigma=0.3 (it was not set); "
        "no --config.train.batch_size (it was --config.train.batch_size=8); "
        "row sum: nothing (it was --config.model.fusion=sum); "
        "row wide: --config.model.width=80 (it was --config.model.width=64). "
        "Use its settings to go on with it, or another --workdir."
    )


def test_the_same_file_by_another_path(make_study, tmp_path, monkeypatch):
    study = make_study()
    write_description(tmp_path, describe(study, [0]))
    monkeypatch.chdir(tmp_path)
    relative = study._replace(file="./tiny.py")
    assert join(tmp_path, describe(relative, [0]))["config"] == "./tiny.py"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"config": '])
def test_a_damaged_description(make_study, tmp_path, content):
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(UserError, match=r"sweep\.json is damaged; restore it, or take another"):
        join(tmp_path, describe(make_study(), [0]))


def test_finished_by_steps(plan):
    run = plan()
    assert not is_finished(run)
    leave(run)
    assert not is_finished(run)
    leave(run, finished=3)
    assert not is_finished(run)
    leave(run, finished=4)
    assert is_finished(run)
    assert not is_finished(plan({"train.steps": 5}))
    (run.workdir / "finished.json").write_text('{"step"')
    assert not is_finished(run)
    forget_finished(run)
    forget_finished(run)
    assert os.listdir(run.workdir) == ["config.json"]


def test_finished_by_epochs(plan):
    epochs = {"train.steps": 0, "train.epochs": 2.0}
    leave(plan(epochs), finished=250)
    assert is_finished(plan(epochs))
    assert not is_finished(plan({"train.steps": 0, "train.epochs": 3.0}))
    assert not is_finished(plan({"train.steps": 251}))
    leave(plan({"train.steps": 250}), finished=250)
    assert not is_finished(plan(epochs))  # how many steps these are only the run can tell


def test_a_workdir_with_another_config(plan):
    check_earlier(plan())
    leave(plan())
    check_earlier(plan())
    check_earlier(plan({"train.steps": 9, "log.every_steps": 3}))
    with pytest.raises(
        UserError, match=r"fast/seed_0 holds a run with another config: config\.model\.w"
    ):
        check_earlier(plan({"model.width": 64}))


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ({}, {"train.steps": 3}, "is finished after 4 steps, more than config.train.steps=3: "),
        (
            {"train.steps": 0, "train.epochs": 2.0},
            {"train.steps": 0, "train.epochs": 1.5},
            "is finished after 2.0 epochs, more than config.train.epochs=1.5: ",
        ),
    ],
)
def test_a_finished_run_does_not_get_shorter(plan, before, now, message):
    leave(plan(before))
    check_earlier(plan(now))
    leave(plan(before), finished=4)
    check_earlier(plan(before))
    with pytest.raises(UserError) as error:
        check_earlier(plan(now))
    assert message in str(error.value)
    check_earlier(plan({"train.steps": 0}))


def test_two_sweeps_in_one_folder(tmp_path):
    with locked(tmp_path / "a" / "out"):
        with pytest.raises(UserError, match="a sweep is at work here"), locked(tmp_path / "a/out"):
            pass
        with locked(tmp_path / "other"):
            pass
    with locked(tmp_path / "a" / "out") as lock:
        assert os.fstat(lock)
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(lock)


def test_a_folder_that_cannot_be_used(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--workdir=.*file: cannot make this folder \("):
        locked(tmp_path / "file").__enter__()
    with pytest.raises(UserError, match=r"--workdir=.*file/x: cannot make this folder \("):
        locked(tmp_path / "file" / "x").__enter__()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError, match=r"cannot write there; name another folder"):
        locked(tmp_path).__enter__()
