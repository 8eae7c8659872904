"""Workdirs and checkpoints that are damaged or of something else: refused, and left as they are."""

import fcntl
import json
import shutil

import jax.numpy as jnp
import pytest
from in_process import assert_refused, run_command

from bifpn_jax.recipe import base
from bifpn_jax.train.checkpoints import Checkpoints

LABEL_MAP = {"category_ids": [1, 2], "names": ["cat", "dog"]}


def config():
    made = base.get_config("d0")
    made.model.backbone = "nano"
    return json.loads(made.to_json())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A workdir with a checkpoint of step 3; its only weight is one that no model has."""
    workdir = tmp_path_factory.mktemp("whole")
    weights = {"x": {"kernel": jnp.arange(2000.0)}}
    state = {"ema_params": weights, "ema_batch_stats": weights}
    checkpoints = Checkpoints(workdir)
    checkpoints.save(3, state, {"next_index": 0}, {"config": config(), "label_map": LABEL_MAP})
    checkpoints.close()
    return workdir


@pytest.fixture
def workdir(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


STEP = "checkpoints/latest/3"
NOT_SAID = "does not say which model and classes"


def remove(path):
    return lambda workdir: shutil.rmtree(workdir / path)


def empty(path):
    def change(workdir):
        shutil.rmtree(workdir / path)
        (workdir / path).mkdir()

    return change


def each_file(path, change):
    """Changes the content of every file below a folder."""

    def change_all(workdir):
        files = [file for file in (workdir / path).rglob("*") if file.is_file()]
        assert files
        for file in files:
            file.write_bytes(change(file.read_bytes()))

    return change_all


def meta(**fields):
    """Replaces fields of what the checkpoint says of itself; None removes one."""

    def change(workdir):
        file = workdir / STEP / "meta" / "metadata"
        content = json.loads(file.read_text()) | fields
        file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))

    return change


def with_model(**fields):
    changed = config()
    changed["model"] |= fields
    return changed


def without_model():
    changed = config()
    del changed["model"]
    return changed


# Name -> (damage, what must be said).
DAMAGE = {
    "no checkpoints": (remove("checkpoints"), "is not the workdir of a training run"),
    "empty checkpoints": (empty("checkpoints"), "no checkpoint below checkpoints/"),
    "no step": (empty("checkpoints/latest"), "no checkpoint below checkpoints/"),
    "empty step": (empty(STEP), "the checkpoint is damaged"),
    "no meta": (remove(f"{STEP}/meta"), "the checkpoint is damaged"),
    "empty meta": (each_file(f"{STEP}/meta", lambda _: b""), "the checkpoint is damaged"),
    "meta cut off": (each_file(f"{STEP}/meta", lambda b: b[:50]), "the checkpoint is damaged"),
    "meta of garbage": (
        each_file(f"{STEP}/meta", lambda _: b"\xff\0"),
        "the checkpoint is damaged",
    ),
    "meta that is a list": (
        each_file(f"{STEP}/meta", lambda _: b"[]"),
        NOT_SAID,
    ),
    "no config": (meta(config=None), NOT_SAID),
    "no classes": (meta(label_map=None), NOT_SAID),
    "config of another kind": (meta(config=[1]), NOT_SAID),
    "classes of another kind": (meta(label_map="cat"), NOT_SAID),
    "classes without names": (meta(label_map={"category_ids": [1]}), NOT_SAID),
    "no model in the config": (meta(config=without_model()), NOT_SAID),
    "field of a newer version": (
        meta(config=with_model(attention="yes")),
        "unknown model setting 'attention'",
    ),
    "another number of classes": (
        meta(config=with_model(num_classes=9)),
        "num_classes=9, but it names 2 classes",
    ),
    "no state": (remove(f"{STEP}/state"), "the checkpoint is damaged"),
    "empty state": (empty(f"{STEP}/state"), "the checkpoint is damaged"),
    "state of no bytes": (each_file(f"{STEP}/state", lambda _: b""), "the checkpoint is damaged"),
    "state cut off": (
        each_file(f"{STEP}/state", lambda content: content[: len(content) // 2]),
        "the checkpoint is damaged",
    ),
    "state of garbage": (
        each_file(f"{STEP}/state", lambda content: b"\xa5" * len(content)),
        "the checkpoint is damaged",
    ),
}


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_checkpoint(case, workdir, tmp_path):
    change, words = DAMAGE[case]
    change(workdir)
    before = contents(workdir)
    ended = run_command("export", f"--weights={workdir}", f"--output={tmp_path / 'a.safetensors'}")
    assert_refused(ended, words)
    assert contents(workdir) == before
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--step=99", "no checkpoint 99; there are latest: .3., best: none"),
        ("--step=best", "no checkpoint best; there are latest: .3., best: none"),
        ("--model=d1", "holds a d0, not a d1"),
        ("--noema", "no raw weights here; read the averaged ones"),
    ],
)
def test_a_checkpoint_that_is_not_there(words, said, workdir, tmp_path):
    before = contents(workdir)
    output = tmp_path / "a.safetensors"
    ended = run_command("export", f"--weights={workdir}", f"--output={output}", words)
    assert_refused(ended, said)
    assert contents(workdir) == before
    assert not output.exists()


@pytest.fixture(scope="module")
def whole_run(drawn):
    return [
        "--config=configs/d0.py",
        "--process_count=1",
        *drawn,
        "--config.model.min_level=5",
        "--config.model.max_level=6",
    ]


def a_file(workdir):
    shutil.rmtree(workdir)
    workdir.write_text("mine")


def a_link_to_nothing(workdir):
    shutil.rmtree(workdir)
    workdir.symlink_to("/proc/nowhere")


def checkpoints_that_are_a_file(workdir):
    shutil.rmtree(workdir / "checkpoints")
    (workdir / "checkpoints").write_text("mine")


RUNS = {
    "a file": (a_file, "cannot make or write this folder"),
    "a link to nothing": (a_link_to_nothing, "cannot make or write this folder"),
    "checkpoints are a file": (checkpoints_that_are_a_file, "cannot make this folder"),
    "of another run": (lambda _: None, "holds a run with another config: .*model.image_hw="),
    "meta of garbage": (each_file(f"{STEP}/meta", lambda _: b"\xff\0"), "damaged"),
    "no config": (meta(config=None), "damaged"),
}


@pytest.mark.parametrize("case", RUNS)
def test_a_workdir_in_which_no_run_can_go_on(case, workdir, whole_run):
    change, words = RUNS[case]
    change(workdir)
    before = contents(workdir.parent)
    assert_refused(run_command("train", *whole_run, f"--workdir={workdir}"), words, str(workdir))
    assert contents(workdir.parent) == before


def test_a_workdir_in_which_another_run_is(workdir, whole_run):
    with (workdir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("process 1 on elsewhere")
        lock.flush()
        ended = run_command("train", *whole_run, f"--workdir={workdir}")
    assert_refused(ended, "process 1 on elsewhere is training here")
