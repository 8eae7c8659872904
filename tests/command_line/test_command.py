"""The command line: what is wrong with it is said in one line, with what would be right."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from bifpn_jax.command_line import download_consent
from bifpn_jax.command_line.command import make_folder
from bifpn_jax.command_line.overrides import (
    check_overrides,
    explain_value,
    keep_last,
    with_recipe_files,
)
from bifpn_jax.errors import UserError
from bifpn_jax.recipe import base, by_name
from bifpn_jax.recipe.checks import check_config, check_same_run

ROOT = Path(__file__).resolve().parents[2]
D0 = "--config=configs/d0.py"


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def run(*words):
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["experiments.main", D0, "--config.train.batchsize=3"],
            "error: --config.train.batchsize: there is no such field; did you mean "
            "--config.train.batch_size?",
        ),
        (
            ["experiments.main", D0, "--config.train.batch_size=x"],
            "error: --config.train.batch_size=x: give a whole number, such as 64.",
        ),
        (
            ["experiments.main", D0, "--workdri=x"],
            "error: --workdri is not a flag of this command; did you mean --workdir?",
        ),
        (
            ["experiments.main", D0, "--config.model.backbone=b9"],
            "error: unknown backbone 'b9': did you mean 'b7'?",
        ),
        (
            ["experiments.main", D0, "runs/d0"],
            "error: unexpected argument 'runs/d0'; options are written --name=value.",
        ),
        (
            ["experiments.main", D0, "--process_id=2", "--process_count=2"],
            "error: --process_id=2: processes are numbered from 0 to 1, --process_count=2.",
        ),
        (
            ["experiments.main", D0, "--process_id=1"],
            "error: there is no scheduler to ask for the rest: give all of "
            "--coordinator_address=HOST:PORT, --process_id=N and --process_count=N, or none of "
            "them.",
        ),
        (
            ["bifpn_jax", "predict", "x.jpg"],
            "error: --weights=… is missing; --help lists the flags.",
        ),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(words, line):
    result = run(*words)
    assert result.returncode == 2
    assert result.stderr == line + "\n"
    assert result.stdout == ""


def test_help_lists_the_flags():
    result = run("bifpn_jax", "eval", "--help")
    for flag in ("--weights", "--[no]ema", "--images", "--[no]download", "--nms=gaussian|hard"):
        assert flag in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


def test_the_fields_of_the_config_are_returned():
    fields = check_overrides([D0, "--config.train.batch_size=3", "--noconfig.augment.flip"])
    assert fields["train.batch_size"] == 64
    assert fields["data.shapes.num_train"] == 2000
    assert check_overrides(["--config", "configs/d0.py:debug"])["train.steps"] == 16
    assert check_overrides([D0, "--", "--config.x=3"]) == fields
    assert check_overrides(["--help"]) == {}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("train.batchsize", "did you mean --config.train.batch_size?"),
        ("trian.batch_size", "did you mean --config.train.batch_size?"),
        ("data.shapes.num_trian", "did you mean --config.data.shapes.num_train?"),
        ("batch_size", "did you mean --config.eval.batch_size or --config.train.batch_size?"),
        ("backbone", "did you mean --config.model.backbone?"),
        ("optimizer.weigth_decay", "did you mean --config.optimizer.weight_decay?"),
        ("train.batch_size.x", "did you mean --config.train.batch_size?"),
        ("zzz", "--help_config lists them all."),
    ],
)
def test_an_unknown_field_names_the_nearest(name, hint):
    with pytest.raises(UserError) as error:
        check_overrides([D0, f"--config.{name}=3"])
    assert str(error.value) == f"--config.{name}: there is no such field; {hint}"


def test_part_of_a_tuple_cannot_be_set():
    with pytest.raises(UserError, match=r"set the whole, --config\.model\.mean_rgb=\(123\.675, "):
        check_overrides([D0, "--config.model.mean_rgb[0]=3"])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "a config is needed: --config=configs/d0.py"),
        ("configs/d9.py", "there is no file configs/d9.py; did you mean configs/d"),
        ("d00", "there is no file d00; did you mean configs/d0.py?"),
        (
            "configs",
            "there is no file configs; the configs are in configs/, and by name there are d0, ",
        ),
        ("pyproject.toml", "pyproject.toml is not a config"),
        (
            "bifpn_jax/recipe/base.py",
            "bifpn_jax/recipe/base.py is not a config: it has no get_config()",
        ),
        ("configs/d0.py:debgu", "unknown switch 'debgu'"),
    ],
)
def test_a_file_that_is_no_config(value, message):
    with pytest.raises(UserError) as error:
        check_overrides([f"--config={value}", "--config.train.steps=3"])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_recipe_by_its_name():
    assert check_overrides(["--config=d1:debug"])["train.steps"] == 16
    assert check_overrides(["--config", "finetune:lite1"])["model.name"] == "lite1"
    words = ["--config=d1:debug", "--workdir=d1:debug"]
    assert with_recipe_files(words) == [f"--config={by_name.__file__}:d1:debug", words[1]]
    split = with_recipe_files(["--config", "scaled:phi=1"])
    assert split == ["--config", f"{by_name.__file__}:scaled:phi=1"]
    assert with_recipe_files([D0, "d1"]) == [D0, "d1"]


@pytest.mark.parametrize("name", by_name.RECIPES)
def test_every_recipe_has_a_file_to_copy(name):
    arg = {"scaled": ("phi=1",), "finetune": ("lite0,debug",)}.get(name, ("debug",))
    file = runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"](*arg)
    assert file.to_json() == by_name.get_config(f"{name}:{arg[0]}").to_json()
    assert by_name.get_config(name).to_json() == by_name.recipe(name)().to_json()


def test_an_error_inside_a_config_keeps_its_traceback(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def get_config():\n    return {}['missing']\n")
    with pytest.raises(KeyError):
        check_overrides([f"--config={file}"])


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("train.batch_size=x", "give a whole number, such as 64."),
        ("ema_decay=x", "give a number, such as 0.9998."),
        ("augment.flip=x", "give true or false, such as True."),
        (
            "train=3",
            "this is a group of fields; set one of them, such as --config.train.accumulate.",
        ),
    ],
)
def test_a_value_of_the_wrong_type_says_the_right_one(override, hint):
    fields = check_overrides([D0])
    message = explain_value(f"flag --config.{override}: some\n Python error: x", fields)
    assert message == f"--config.{override}: {hint}"


def test_other_flags_keep_their_message():
    assert explain_value("flag --score=x: no\nnumber", {}) == "--score=x: no number"


def test_the_last_of_several_overrides_counts():
    words = ["main", D0, "--config.a=(1,)", "--other=1", "--config.a=(2,)", "--other=1"]
    assert keep_last(words) == ["main", D0, "--other=1", "--config.a=(2,)", "--other=1"]


def test_a_folder_that_cannot_be_made(tmp_path):
    assert make_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--output=.*file: cannot make this folder"):
        make_folder(tmp_path / "file")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train.batch_size", 0),
        ("model.image_hw", (64,)),
        ("model.image_hw", ("64", "64")),
        ("augment.jitter", (1.5, 0.5)),
        ("augment.jitter", ("a", "b")),
        ("eval.nms_method", "soft"),
        ("eval.every_epochs", 0.0),
    ],
)
def test_values_out_of_range(field, value):
    config = base.get_config("d0")
    group, name = field.split(".")
    config[group][name] = value
    with pytest.raises(UserError) as error:
        check_config(config)
    assert str(error.value).startswith(f"config.{field}={value!r} does not work: ")


def test_a_part_that_does_not_exist():
    config = base.get_config("d0")
    config.schedule.decay = "linear"
    with pytest.raises(UserError, match="unknown decay 'linear': did you mean 'cosine'"):
        check_config(config)


def test_a_model_that_does_not_exist_is_found_before_the_data():
    config = base.get_config("d0")
    config.model.fusion = "fats"
    with pytest.raises(UserError, match="unknown fusion 'fats': did you mean 'fast'"):
        check_config(config)


META = {
    "config": {"train": {"steps": 3, "batch_size": 8}, "model": {"image_hw": [64, 64]}},
    "label_map": {"category_ids": [1, 2], "names": ["cat", "dog"]},
}


def test_what_a_resumed_run_may_change():
    longer = {**META["config"], "train": {"steps": 9, "batch_size": 8}, "log": {"every_steps": 1}}
    check_same_run({**META, "config": longer}, META, "runs/x")
    tuples = {**META["config"], "model": {"image_hw": (64, 64)}}
    check_same_run({**META, "config": tuples}, META, "runs/x")
    recomputed = {**META["config"], "model": {**META["config"]["model"], "remat": "heads"}}
    check_same_run({**META, "config": recomputed}, META, "runs/x")


def test_what_it_may_not():
    changed = {**META["config"], "train": {"steps": 3, "batch_size": 16}, "ema_decay": 0.5}
    with pytest.raises(UserError) as error:
        check_same_run({**META, "config": changed}, META, "runs/x")
    assert str(error.value).startswith(
        "runs/x holds a run with another config: config.ema_decay=0.5 (it was None); "
        "config.train.batch_size=16 (it was 8). "
    )
    classes = {"category_ids": [1, 5], "names": ["cat", "cow"]}
    with pytest.raises(UserError, match=r"other classes: 1 cat, 2 dog, and .* now 1 cat, 5 cow"):
        check_same_run({**META, "label_map": classes}, META, "runs/x")


def test_nothing_is_downloaded_without_consent(tmp_path, capsys, monkeypatch):
    data = base.get_config("d0").data
    data.data_dir = str(tmp_path)
    with pytest.raises(UserError, match="agree to the download with --download, or use a local"):
        download_consent.ask_before_download(data, False)
    said = capsys.readouterr().out
    assert "train2017.zip 19.3 GB" in said
    assert str(tmp_path) in said
    assert not list(tmp_path.iterdir())
    download_consent.ask_before_download(data, True)

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    with pytest.raises(UserError, match="without COCO 2017, use a local copy"):
        download_consent.ask_before_download(data, False)
    monkeypatch.setattr("builtins.input", lambda _: " Yes ")
    download_consent.ask_before_download(data, False)

    data.source = "shapes"
    capsys.readouterr()
    download_consent.ask_before_download(data, False)
    assert capsys.readouterr().out == ""


def test_commands_can_be_imported_together():
    from bifpn_jax.commands import evaluate, inspect_data, predict
    from bifpn_jax.runs import loop
    from experiments import main

    assert all(module.__doc__ for module in (evaluate, inspect_data, loop, main, predict))
    assert "weights" not in flags.FLAGS
