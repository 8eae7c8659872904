"""Help of every command: it says what there is and ends with status 0; and of every field."""

import fcntl
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from in_process import run_command

from bifpn_jax.command_line import command
from bifpn_jax.command_line.command_help import asks_for_help
from bifpn_jax.command_line.config_help import config_help, values_of
from bifpn_jax.commands import bifpn
from bifpn_jax.data.coco.coco_objects import BAD_BOXES
from bifpn_jax.data.sources.shapes import _OPTIONS
from bifpn_jax.recipe import base
from bifpn_jax.recipe.checks import check_config
from bifpn_jax.recipe.field_descriptions import FIELDS, GROUPS, field_of
from bifpn_jax.recipe.fields import flat_fields

ROOT = Path(__file__).resolve().parents[2]
# How a command is called -> its module.
COMMANDS = {
    name: f"bifpn_jax.commands.{entry.module}" for name, entry in bifpn.COMMANDS.items()
} | {
    ".".join(path.relative_to(ROOT / "experiments").with_suffix("").parts): ".".join(
        path.relative_to(ROOT).with_suffix("").parts
    )
    for path in sorted(ROOT.glob("experiments/**/*.py"))
    if "command.run(" in path.read_text()
}
WITH_CONFIG = ("inspect", "performance.fusion_speed", "sweep", "train")
CONFIGS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in ROOT.glob("configs/**/*.py")
    if path.stem != "__init__"
)


@pytest.fixture
def call():
    """Runs a command in this process, as far as help is concerned."""

    def run(name, *words):
        ended = run_command(name, *words)
        return ended.status, ended.out, ended.err

    return run


def test_all_commands_are_tested():
    assert len(COMMANDS) == 18
    assert set(WITH_CONFIG) < set(COMMANDS)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command(name, call):
    status, out, err = call(name, "--help")
    assert (status, err) == (0, "")
    module = importlib.import_module(COMMANDS[name])
    program = f"bifpn {name}" if name in bifpn.COMMANDS else f"python -m experiments.{name}"
    assert out.startswith(f"{program} ")
    assert module.__doc__.strip().splitlines()[0].replace("``", "") in out
    source = Path(module.__file__).read_text()
    own = re.findall(r"flags\.DEFINE_\w+\(\s*\"(\w+)\"", source)
    for flag in own:
        assert re.search(rf"^  --(\[no\])?{flag}\b", out, re.MULTILINE), flag
    assert ("--help_config" in out) == (name in WITH_CONFIG)
    assert "%%" not in out
    # Nothing of the libraries, and no flag without a word about it.
    assert "--verbosity" not in out
    assert "grain" not in out.replace("grained", "")
    assert not re.search(r"^  --\S+\n  --", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) <= 100
    assert call(name, "-h") == (0, out, "")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_other_ways_to_ask(call):
    out = call("performance.soak", "--help")[1]
    assert "more than 3 % after" in out
    assert "Training steps. (default: 20000)" in out
    for word in ("--helpshort", "-help", "--help=true"):
        assert call("performance.soak", "--steps=9", word, "--no_such=1") == (0, out, "")
    status, full, err = call("performance.soak", "--helpfull")
    assert (status, err) == (0, "")
    assert full.startswith(out.rstrip())
    assert "--[no]logtostderr" in full
    assert not asks_for_help(["--", "--help"])
    assert not asks_for_help(["--help_config", "help", "--helpless"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", WITH_CONFIG)
def test_the_fields_of_a_config(name, call):
    status, out, err = call(name, "--help_config")
    assert (status, err) == (0, "")
    assert "Fields of d0 with" in out
    assert "  --config.train.batch_size=64\n" in out
    of_file = call(name, "--config=configs/d0.py", "--help_config")[1]
    assert of_file == out.replace("Fields of d0 with", "Fields of configs/d0.py with")
    words = "--config=configs/finetune.py:d1", "--config.train.batch_size=24", "--help_config"
    changed = call(name, *words)[1]
    assert "  --config.train.batch_size=24\n" in changed
    assert "  --config.model.width=88\n" in changed
    status, out, err = call(name, "--help_config", "--config.train.batchsize=3")
    assert (status, out) == (2, "")
    assert "did you mean --config.train.batch_size?" in err


def fields_of(config):
    return dict(flat_fields(importlib.import_module(config).get_config()))


@pytest.mark.parametrize("config", CONFIGS)
def test_every_field_has_a_meaning(config):
    fields = fields_of(config)
    for name, value in fields.items():
        field = field_of(name)
        assert field.meaning.endswith("."), name
        if field.choices:
            assert value in field.choices, name
        if isinstance(value, int | float):
            assert field.allows(value), name
    text = config_help(importlib.import_module(config).get_config(), config)
    for name in fields:
        assert f"  --config.{name}=" in text
    for group in {name.split(".")[0] for name in fields if "." in name}:
        assert f"\n{GROUPS[group]}:\n" in text


def test_every_description_is_of_a_field():
    known = {name for config in CONFIGS for name in fields_of(config)}
    known |= {f"data.shapes.{option}" for option in _OPTIONS}
    assert set(FIELDS) <= known
    assert {name.rpartition(".")[0].split(".")[0] for name in known} == set(GROUPS)
    assert set(FIELDS["data.bad_boxes"].choices) == set(BAD_BOXES)


def test_a_field_of_ones_own_is_listed_last():
    config = base.get_config("d0")
    config.mine = {"side": 3}
    text = config_help(config, "mine")
    assert text.endswith("\nmine:\n  --config.mine.side=3\n      Takes a whole number.")


RANGES = [name for name, field in FIELDS.items() if field.limits]


@pytest.mark.parametrize("name", RANGES)
def test_a_value_outside_of_the_range_is_refused(name):
    field, config = FIELDS[name], base.get_config("d0")
    lowest = field.above if field.above is not None else field.low
    below = lowest if field.above is not None else lowest - 1
    beyond = [below] + ([field.high + 1] if field.high is not None else [])
    kind = type(dict(flat_fields(config))[name])
    for value in beyond:
        config = base.get_config("d0")
        config.update_from_flattened_dict({name: kind(value)})
        with pytest.raises(command.UserError, match=re.escape(field.limits)):
            check_config(config)


@pytest.mark.parametrize("name", [name for name, field in FIELDS.items() if field.choices])
def test_a_value_that_is_no_choice_is_refused(name):
    config = base.get_config("d0")
    config.update_from_flattened_dict({name: "nothing like it"})
    with pytest.raises(command.UserError):
        check_config(config)
    for choice in FIELDS[name].choices:
        config = base.get_config("d0")
        config.update_from_flattened_dict({name: choice})
        check_config(config)


def test_what_a_field_takes_in_words():
    words = {
        name: values_of(FIELDS[name], value)
        for name, value in fields_of("configs.d0").items()
        if name in FIELDS
    }
    assert words["train.batch_size"] == "Takes a whole number between 1 and 1,048,576."
    assert words["train.epochs"] == "Takes a number greater than 0."
    assert words["augment.flip"] == "Takes true or false."
    assert words["model.backbone_padding"] == "Takes nothing, same or symmetric."
    assert words["model.width"] == "Takes a whole number, at least 1."
    assert words["data.train_images"] == ""


def pipe_closed_after_a_line(*words):
    """The first line, the exit status and stderr of a command whose reader goes away then."""
    read, write = os.pipe()
    # One page: a command that writes more has to wait for a reader, however slow the reader is.
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    with open(read, encoding="utf-8") as output:
        first = output.readline()
    err = process.stderr.read()
    process.stderr.close()
    return first, process.wait(), err


def test_a_closed_pipe_ends_a_command_quietly():
    # It writes 40 kB, more than the pipe and the reader's buffer hold.
    first, status, err = pipe_closed_after_a_line("bifpn_jax", "weights", "--list")
    assert first.startswith("name")
    assert (status, err) == (141, "")


def test_a_pipe_that_nobody_reads():
    code = (
        "import os, sys; from bifpn_jax.command_line import command;"
        "read, write = os.pipe(); os.close(read);"
        "os.dup2(write, 1); command.app.run = lambda main, flags_parser: main(['x']);"
        "command.keep_freed_memory = lambda: None;"
        "command.run(lambda words: print('said') if sys.argv[1] == 'out' else 1 / 0)"
    )
    for word, status, said in (("out", 141, ""), ("fail", 1, "ZeroDivisionError")):
        ended = subprocess.run(
            [sys.executable, "-c", code, word], cwd=ROOT, capture_output=True, text=True
        )
        assert ended.returncode == status, ended.stderr
        assert ended.stderr == said or said in ended.stderr.splitlines()[-1]
