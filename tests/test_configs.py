"""Every file in configs/: it loads, its checks pass, its model and training step have shapes."""

import functools
import importlib
import inspect
import json
import runpy
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from several_processes import finish, start

from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.errors import UserError
from bifpn_jax.losses import LossSettings
from bifpn_jax.models import initial_values
from bifpn_jax.models.cost import num_parameters
from bifpn_jax.models.detector import create_model, make_anchors
from bifpn_jax.models.scaling import MODELS
from bifpn_jax.recipe import base, building
from bifpn_jax.recipe.checks import check_config
from bifpn_jax.train import devices
from bifpn_jax.train.gradients import TRAIN_FIELDS
from bifpn_jax.train.optimizer import make_optimizer
from bifpn_jax.train.state import create_state

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(p.stem for p in ROOT.glob("configs/*.py") if p.stem not in ("__init__", "base"))
STUDIES = sorted(
    f"ablations.{path.stem}"
    for path in ROOT.glob("configs/ablations/*.py")
    if path.stem != "__init__"
)
CLASSES = LabelMap(tuple(range(1, 91)), tuple(f"class-{i}" for i in range(1, 91)))

# Trainable parameters with 90 classes, as published.
PARAMETERS = {
    "d0": 3_880_067,
    "d1": 6_625_898,
    "d2": 8_097_039,
    "d3": 12_032_296,
    "d4": 20_723_675,
    "d5": 33_653_315,
    "d6": 51_871_782,
    "d7": 51_871_782,
    "d7x": 77_147_166,
    "lite0": 3_243_470,
    "lite1": 4_248_318,
    "lite2": 5_252_334,
    "lite3": 8_350_862,
    "lite3x": 9_280_862,
    "lite4": 15_130_894,
}


def get_config(name, *arg):
    return importlib.import_module(f"configs.{name}").get_config(*arg)


def shapes_of(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


# Recipes and studies have many models in common, and tracing one takes seconds.
variable_shapes = functools.cache(initial_values.variable_shapes)


@functools.cache
def forward_pass(model):
    """Shapes of the variables, and of the outputs for two images."""
    variables = variable_shapes(model)
    images = jax.ShapeDtypeStruct((2, *model.image_hw, 3), np.float32)
    return variables, jax.eval_shape(partial(model.apply, train=False), variables, images)


EVERY = [
    *((name, ()) for name in CONFIGS),
    *((study, ("shapes",)) for study in STUDIES),
    ("d7x", ("debug",)),  # level 8 of 64 pixels
    ("scaled", ("phi=-3.5,width=0",)),
]
# Tracing a step with its gradient takes three times as long as the forward pass.
STEPS = ("d0", "lite0", "finetune", "quickstart")


@pytest.mark.parametrize(("name", "arg"), EVERY)
def test_the_forward_pass(name, arg):
    config = get_config(name, *arg)
    check_config(config)
    model = building.model(config, CLASSES)
    variables, outputs = forward_pass(model)
    anchors = len(make_anchors(model, model.image_hw))
    assert outputs.class_logits.shape == (2, anchors, len(CLASSES))
    assert outputs.box_codes.shape == (2, anchors, 4)
    if name in PARAMETERS and not arg:
        assert num_parameters(variables["params"]) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("name", "arg"),
    [pytest.param(*c, marks=() if c[0] in STEPS else pytest.mark.slow) for c in EVERY],
)
def test_the_whole_training_step(name, arg):
    config = get_config(name, *arg)
    model = building.model(config, CLASSES, axis_name=devices.AXIS)
    length = building.run_length(config, 117_266)
    schedule = building.schedule(config, length)
    variables = variable_shapes(model)
    optimizer = building.optimizer(config, schedule, variables["params"])
    state = jax.eval_shape(lambda v: create_state(v, optimizer), variables)
    step = building.training_step(config, model, optimizer, schedule)
    boxes = config.data.max_boxes
    batch = {
        "image": ((*model.image_hw, 3), np.uint8),
        "content_hw": ((2,), np.int32),
        "boxes": ((boxes, 4), np.float32),
        "labels": ((boxes,), np.int32),
    }
    assert set(batch) == set(TRAIN_FIELDS)
    count = devices.device_count()
    new, metrics = jax.eval_shape(
        devices.map_as_one_program(step),
        state,
        {k: jax.ShapeDtypeStruct((count, 1, *s), dtype) for k, (s, dtype) in batch.items()},
    )
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert shapes_of(new) == shapes_of(state)
    assert {leaf.dtype for leaf in jax.tree.leaves(new.params)} == {np.dtype(np.float32)}
    assert all(value.shape == () for value in metrics.values())
    assert {"loss", "gradient_norm", "learning_rate"} <= set(metrics)


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_config_is_the_released_model(name):
    assert set(PARAMETERS) == set(MODELS)
    config = get_config(name)
    assert config.name == config.model.name == name
    assert building.model(config, CLASSES) == create_model(name, num_classes=90)
    assert config.ema_decay == 0.9998
    assert config.optimizer.weight_decay == 4e-5
    assert config.train.epochs == (600 if name in ("d7", "d7x") else 300)


# What debug may change of a model: how large it is, never what it is.
SIZES = {"backbone", "width", "network_repeats", "head_repeats", "image_hw"}


@pytest.mark.parametrize(
    ("name", "arg"),
    [*((n, ()) for n in CONFIGS), *((s, a) for s in STUDIES for a in ((), ("shapes",)))],
)
def test_the_debug_switch(name, arg):
    whole, config = get_config(name, *arg), get_config(name, ",".join((*arg, "debug")))
    check_config(config)
    assert config.data.source == "shapes"
    assert config.train.steps <= 16
    assert max(config.model.image_hw) <= 128
    model = building.model(config, CLASSES)
    changed = {field for field in whole.model if whole.model[field] != config.model[field]}
    assert changed <= SIZES
    for group in ("optimizer", "loss", "augment"):
        assert whole[group] == config[group]
    if name != "finetune":
        assert num_parameters(variable_shapes(model)["params"]) < 1_000_000


def test_debug_leaves_a_model_that_weights_must_fit():
    whole, config = get_config("finetune", "lite1"), get_config("finetune", "lite1,debug")
    assert {f for f in whole.model if whole.model[f] != config.model[f]} == {"image_hw"}


@pytest.mark.slow
def test_debug_runs(tmp_path):
    """The model with all that D7x alone has, and a field on the command line wins."""
    (ended,) = finish(
        [
            start(
                [
                    *("-m", "experiments.main", "--config=configs/d7x.py:debug"),
                    *(f"--workdir={tmp_path / 'run'}", f"--config.data.data_dir={tmp_path}"),
                    *("--process_count=1", "--config.model.width=24"),
                ]
            )
        ],
        900,
    )
    assert ended.status == 0, ended
    config = json.loads((tmp_path / "run" / "config.json").read_text())["model"]
    assert (config["width"], config["max_level"], config["fusion"]) == (24, 8, "sum")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["step"] == 16


def test_defaults_are_those_of_the_functions():
    """Written once, beside what they are of."""
    config = base.get_config("d0")
    assert config.loss.to_dict() == LossSettings()._asdict()
    params = {"kernel": np.zeros(3, np.float32)}
    ours = building.optimizer(config, lambda step: 0.1, params)
    published = make_optimizer(lambda step: 0.1, params)
    assert jax.tree.structure(ours.init(params)) == jax.tree.structure(published.init(params))
    for name in ("name", "momentum", "weight_decay", "clip_norm", "clip_each_norm"):
        default = inspect.signature(make_optimizer).parameters[name].default
        assert config.optimizer[name] == default


def test_an_unknown_switch():
    with pytest.raises(UserError, match=r"unknown switch 'debgu' .* use debug"):
        base.get_config("d0", "debgu")


def test_configs_load_by_file_too():
    config = runpy.run_path(str(ROOT / "configs" / "d3.py"))["get_config"]()
    assert config.to_json() == get_config("d3").to_json()


def test_the_scaling_rule_is_written_down():
    d6 = base.get_config("d6").scaling
    assert d6.rule.width == pytest.approx(64 * 1.35**6)
    assert d6.deviations
    assert not base.get_config("lite0").scaling.rule


@pytest.mark.parametrize("arg", [None, "shapes", "shapes,debug", "debug"])
@pytest.mark.parametrize("study", STUDIES)
def test_every_row_of_a_study_has_a_config_that_works(study, arg):
    module = importlib.import_module(f"configs.{study}")
    rows = module.sweep(arg)
    assert len(rows) > 1
    seen = []
    for row, fields in rows.items():
        config = module.get_config(arg)
        assert config.study == config.name == study.removeprefix("ablations.")
        config.lock()
        config.update_from_flattened_dict(fields)
        check_config(config)
        assert config.to_dict() not in seen, f"{row} is another row once more"
        seen.append(config.to_dict())


def test_scaled_configs():
    config = get_config("scaled", "phi=1,width=-2,debug")
    assert (config.model.width, config.model.network_repeats) == (16, 1)  # of debug
    assert config.model.image_hw == (64, 64)
    assert config.name == "scaled_phi1_width-2_debug"
    whole = get_config("scaled", "phi=1,width=-2").model
    assert (whole.width, whole.network_repeats) == (32, 4)  # 64 * 1.35^-2 = 35.1
    assert get_config("scaled").model.backbone == "b0"
    with pytest.raises(UserError, match="phi=: '' is not a number; write phi="):
        get_config("scaled", "phi=")
    with pytest.raises(UserError, match="there is no factor 'size'"):
        get_config("scaled", "phi=1,size=2")


def test_the_papers_rows_have_the_papers_size():
    """Table 4: 12 M parameters with BiFPN."""
    module = importlib.import_module("configs.ablations.backbone_vs_bifpn")
    model = building.model(module.get_config(), CLASSES)
    variables = variable_shapes(model)
    assert num_parameters(variables["params"]) == 11_812_117


def test_fine_tuning_from_a_backbone_alone_has_another_optimizer():
    detector, backbone = (get_config("finetune", arg) for arg in ("lite1", "lite1,backbone"))
    assert detector.model == backbone.model
    assert (detector.optimizer.name, backbone.optimizer.name) == ("sgd", "adamw")
    assert get_config("finetune", "lite1,backbone,debug").train.steps == 16
