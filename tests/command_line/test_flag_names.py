"""The library names arguments and fields, and commands put them as their flags."""

import ast
import re
from pathlib import Path

import pytest

from bifpn_jax.command_line import trained_model
from bifpn_jax.command_line.flag_names import flags_of_fields, flags_of_names, in_flags
from bifpn_jax.commands import evaluate
from bifpn_jax.errors import UserError, rename, renaming
from bifpn_jax.recipe import base, building

PACKAGE = Path(__file__).resolve().parents[2] / "bifpn_jax"
# Where flags are defined and put into messages.
OF_COMMANDS = ("command_line", "commands", "__main__.py")
FILES = sorted(
    path.relative_to(PACKAGE)
    for path in PACKAGE.rglob("*.py")
    if path.relative_to(PACKAGE).parts[0] not in OF_COMMANDS
)

FIELDS = flags_of_fields(base.get_config("d0"))


@pytest.mark.parametrize(
    ("message", "flags"),
    [
        ("set bad_boxes=skip, or =clip", "set --config.data.bad_boxes=skip, or =clip"),
        ("set config.train.nonfinite=skip.", "set --config.train.nonfinite=skip."),
        ("config.model.width=0 does not work", "--config.model.width=0 does not work"),
        ("lower config.schedule.base_rate.", "lower --config.schedule.base_rate."),
        ("(config.data.eval_images=DIR)", "(--config.data.eval_images=DIR)"),
        ("it needs --config.init_from=NAME", "it needs --config.init_from=NAME"),
        ("in the group config.data", "in the group --config.data"),
        # Of several groups, of no group, no argument, a file, somebody's code.
        ("set batch_size=8", "set batch_size=8"),
        ("use model=d0", "use model=d0"),
        ("train.bad_boxes=skip ../antialias=1", "train.bad_boxes=skip ../antialias=1"),
        ("runs/d0/config.json is damaged", "runs/d0/config.json is damaged"),
        ('python -c "load(data_dir=1)"', 'python -c "load(data_dir=1)"'),
        ("`make(data_dir=1)` and data_dir=2", "`make(data_dir=1)` and --config.data.data_dir=2"),
    ],
)
def test_with_a_config(message, flags):
    assert in_flags(message, FIELDS) == flags


@pytest.mark.parametrize(
    ("message", "flags"),
    [
        ("set bad_boxes=skip", "set --bad_boxes=skip"),
        ("(config.data.eval_images=DIR)", "(--images=DIR)"),
        ("(eval_annotations=FILE)", "(--annotations=FILE)"),
        ("set config.data.data_dir=DIR", "set config.data.data_dir=DIR"),
        ("give class_names=cat,dog", "give --class_names=cat,dog"),
        ("set trust_code=True.", "set --trust_code."),
        ("say which with model=d0 or model=d1", "say which with --model=d0 or --model=d1"),
    ],
)
def test_with_flags_of_its_own(message, flags):
    assert in_flags(message, flags_of_names(evaluate.FLAG_NAMES)) == flags


def test_a_flag_that_stands_for_another_thing_is_not_meant():
    """--eval_images of predict is a number."""
    names = flags_of_names(trained_model.FLAG_NAMES)
    assert in_flags("(config.data.eval_images=DIR)", names) == "(config.data.eval_images=DIR)"


def test_an_error_is_renamed_with_its_parts():
    with pytest.raises(UserError) as error, renaming({"a": "config.group.a"}):
        raise UserError("a=1 is bad", "set a=2")
    assert str(error.value) == "config.group.a=1 is bad; set config.group.a=2"
    assert (error.value.what, error.value.cure) == (
        "config.group.a=1 is bad",
        "set config.group.a=2",
    )
    assert rename("a=1", {}) == "a=1"


def test_what_the_devices_refuse_names_fields():
    config = base.get_config("d0")
    config.train.batch_size = 12
    with pytest.raises(
        UserError, match=r"set config\.train\.batch_size=8 or another multiple of 8"
    ):
        building.check_devices(config)


def messages(tree):
    """All text of a module but its docstrings."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in docstrings:
            yield node.lineno, node.value


@pytest.mark.parametrize("file", FILES, ids=str)
def test_no_message_of_the_library_names_a_flag(file):
    flags = {
        f"line {line}: {text!r}"
        for line, text in messages(ast.parse((PACKAGE / file).read_text()))
        if re.search(r"(?<![\w-])--[a-z]", text)
    }
    assert not flags
