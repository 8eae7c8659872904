"""Rows and seeds become command lines that mean exactly what the study says."""

import re
import shlex
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from bifpn_jax.errors import UserError
from experiments import sweep
from experiments.sweeps.plan import choose_rows, config_flag, parse_seeds, plan_runs, read_rows

ALL_KINDS = """
from bifpn_jax.recipe import quickstart

FIELDS = {
    "augment.flip": False,
    "data.source": "",
    "name": "it's a \\"name\\" with $HOME, = and --x",
    "model.image_hw": (64, 128),
    "model.aspect_ratios": ((1.0, 1.0), (1.4, 0.7)),
    "augment.jitter": [0.5, 2],
    "optimizer.freeze": "^(backbone|x)/.*$",
    "schedule.base_rate": 1e-7,
    "ema_decay": 0,
    "train.steps": 12,
    "data.shapes": {"num_train": 5, "num_eval": 3, "seed": 1, "sides": (48, 72)},
}


def get_config():
    return quickstart.get_config()


def sweep():
    return {"all": FIELDS, "none": {}}
"""


def parse(words):
    """What `experiments.main` would read."""
    values = flags.FlagValues()
    argv = ["main", *words]
    config_flags.DEFINE_config_file("config", None, flag_values=values, sys_argv=argv)
    flags.DEFINE_string("workdir", "", "", flag_values=values)
    values(argv)
    return values


@pytest.mark.filterwarnings("ignore:.*load_module:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*exec_module:ImportWarning")
def test_every_kind_of_value_arrives_as_it_was(study_file):
    file = study_file(ALL_KINDS)
    config = parse([f"--config={file}"]).config
    study = sweep.Study(file, config, {}, read_rows(file))
    run, none = plan_runs(study, Path("a folder"), seeds=[3])
    words = shlex.split(shlex.join(run.command))
    assert words[1:3] == ["-m", "experiments.main"]
    values = parse(words[3:])
    assert values.workdir == "a folder/all/seed_3"
    assert values.config.seed == 3
    for field, value in study.rows["all"].items():
        read = config_flags.config_flags.GetValue(field, values.config)
        if field == "data.shapes":
            assert read.to_dict() == value
        else:
            assert read == (tuple(value) if isinstance(value, list) else value)
            assert type(read) is not list
    assert values.config.to_json() == run.config.to_json()
    assert parse(none.command[3:]).config.to_json() == none.config.to_json()
    assert config.seed == 0  # the base is left alone


def test_seeds_are_outermost_and_the_own_overrides_are_in_every_command(make_study):
    study = make_study({"train.batch_size": 8, "augment.flip": False}, arg="tiny")
    runs = plan_runs(study, Path("runs/x"), seeds=[0, 7], program=("train",), words=["--download"])
    assert [str(run) for run in runs] == [
        "sum seed 0",
        "fast seed 0",
        "wide seed 0",
        "sum seed 7",
        "fast seed 7",
        "wide seed 7",
    ]
    assert runs[5].command == (
        "train",
        f"--config={study.file}",
        "--workdir=runs/x/wide/seed_7",
        "--config.seed=7",
        "--config.model.width=64",
        "--config.train.batch_size=8",
        "--config.augment.flip=false",
        "--download",
    )
    assert runs[5].workdir == Path("runs/x/wide/seed_7")
    assert (runs[5].config.model.width, runs[5].config.train.batch_size) == (64, 8)
    assert runs[0].config.model.fusion == "sum"


def test_some_rows(make_study):
    study = make_study()
    assert choose_rows(study.rows, []) == ["sum", "fast", "wide"]
    assert choose_rows(study.rows, ["wide", "sum"]) == ["sum", "wide"]
    runs = plan_runs(study, Path("x"), seeds=[0], rows=["wide"])
    assert [run.row for run in runs] == ["wide"]
    with pytest.raises(UserError, match=r"no row 'wdie'; did you mean wide\?"):
        choose_rows(study.rows, ["wdie"])
    with pytest.raises(UserError, match=r"no row 'zzz'; there are sum, fast, wide\."):
        choose_rows(study.rows, ["sum", "zzz"])


@pytest.mark.parametrize("words", [[], ["a"], ["1.5"], ["-1"], ["1", ""], ["12345678901"]])
def test_seeds_that_are_none(words):
    with pytest.raises(UserError, match=r"--seeds=.*: give whole numbers, such as 0,1,2\."):
        parse_seeds(words)


def test_seeds():
    assert parse_seeds(["2", " 0"]) == [2, 0]
    with pytest.raises(UserError, match=r"--seeds=1,01: a seed is there twice"):
        parse_seeds(["1", "01"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model.fusoin": "sum"}, "--config.model.fusoin: there is no such field; did you mean "),
        ({"model.fusion": "average"}, "unknown fusion 'average'"),
        ({"model.feature_network": "bifnp"}, "bifnp"),
        ({"model.width": 3.5}, "--config.model.width=3.5: give a whole number, such as 48."),
        ({"model.width": True}, "--config.model.width=true: give a whole number, such as 48."),
        ({"augment.flip": "maybe"}, "--config.augment.flip=maybe: give true or false"),
        ({"name": 3}, "config.name=3 would be read as '3'; give the row a value of the field's"),
        ({"model.image_hw": "abc"}, "config.model.image_hw='abc' would be read as ('abc',)"),
        ({"model": 3}, "--config.model=3: this is a group of fields"),
        ({"train.batch_size": 0}, "config.train.batch_size=0 does not work"),
    ],
)
def test_a_wrong_row_is_named(make_study, fields, message):
    study = make_study()
    study.rows["mine"] = fields
    with pytest.raises(UserError) as error:
        plan_runs(study, Path("x"), seeds=[0])
    assert str(error.value).startswith(f"row mine of {study.file}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.fusion": "fast"}, "--config.model.fusion: the row sum sets config.model.fusion"),
        ({"seed": 3}, "--config.seed: the sweep sets it; choose the seeds with --seeds=0,1,2."),
    ],
)
def test_an_override_of_what_the_sweep_sets(make_study, overrides, message):
    study = make_study(overrides)
    with pytest.raises(UserError) as error:
        plan_runs(study, Path("x"), seeds=[0])
    assert str(error.value).startswith(message)
    if "seed" not in overrides:
        assert len(plan_runs(study, Path("x"), seeds=[0], rows=["fast", "wide"])) == 2


def test_an_override_of_a_part_or_the_whole_of_what_a_row_sets(make_study):
    study = make_study({"data.shapes.seed": 3})
    study.rows["mine"] = {"data.shapes": {"num_train": 5, "num_eval": 3, "seed": 1}}
    with pytest.raises(UserError, match=r"^--config\.data\.shapes\.seed: the row mine sets"):
        plan_runs(study, Path("x"), seeds=[0])
    study = study._replace(overrides={"data.shapes": study.rows["mine"]["data.shapes"]})
    study.rows["mine"] = {"data.shapes.seed": 3}
    with pytest.raises(UserError, match=r"^--config\.data\.shapes: the row mine sets"):
        plan_runs(study, Path("x"), seeds=[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a study: it has no sweep(); take --config=configs/ablations/fusion.py or "),
        ("def sweep(a, b): pass", "it has no sweep()"),
        ("def sweep(): return {}", "sweep() must return rows"),
        ("def sweep(): return ['a']", "sweep() must return rows"),
        ("def sweep(): return {'a/b': {}}", "the row 'a/b' is to be a folder"),
        ("def sweep(): return {'..': {}}", "the row '..' is to be a folder"),
        ("def sweep(): return {'a': 3}", "the row a must be {field: value}, it is 3."),
        ("def sweep(): return {'a': {'seed': 3}}", "the row a sets seed"),
    ],
)
def test_a_file_that_is_no_study(study_file, text, message):
    file = study_file(text)
    with pytest.raises(UserError, match=re.escape(message)):
        read_rows(file)


def test_the_argument_arrives_in_the_rows(study_file):
    file = study_file("def sweep(arg=None): return {str(arg): {}}")
    assert list(read_rows(file)) == ["None"]
    assert list(read_rows(f"{file}:small")) == ["small"]
    with pytest.raises(UserError, match=r"not a study: it has no sweep\(text\)"):
        read_rows(f"{study_file('def sweep(): return {}')}:small")


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (3, "3"), (0.1, "0.1"), ("", ""), ((3,), "(3,)"), ([], "()"), ("a b", "a b")],
)
def test_values_as_text(value, text):
    assert config_flag("a.b", value) == f"--config.a.b={text}"
