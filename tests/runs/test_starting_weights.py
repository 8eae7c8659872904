"""Runs that start from weights."""

import json
from pathlib import Path

import numpy as np
import pytest
from torch_files import write_pth

from bifpn_jax.data.sources.shapes import LABEL_MAP
from bifpn_jax.errors import UserError
from bifpn_jax.exporting import save_detector
from bifpn_jax.models.scaling import MODELS
from bifpn_jax.recipe import building
from bifpn_jax.runs import starting_weights
from bifpn_jax.runs.starting_weights import initial_variables, with_settings_of_weights
from bifpn_jax.trained import load_detector
from bifpn_jax.weights import weights_catalog
from bifpn_jax.weights.formats.safetensors_file import read_safetensors, write_safetensors
from configs import finetune


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "mine.safetensors"
    save_detector(path, load_detector(trained))
    return path


def test_a_run_starts_from_weights_with_other_classes(exported, tiny_config, capsys):
    config = tiny_config()
    config.init_from = str(exported)
    model = building.model(config, LABEL_MAP).clone(num_classes=2)
    variables = initial_variables(config, model, source=None)
    saved = load_detector(exported).variables["params"]
    np.testing.assert_array_equal(
        variables["params"]["backbone"]["stem_conv"]["kernel"],
        saved["backbone"]["stem_conv"]["kernel"],
    )
    new = variables["params"]["class_head"]["predictor"]["pointwise"]["bias"]
    assert new.shape == (18,)
    assert "another number of classes: 4 in the file, 2 in the model" in capsys.readouterr().out


def test_folded_weights_get_statistics_of_the_training_images(
    shared, tiny_config, tmp_path, monkeypatch
):
    pytest.importorskip("tflite", reason="reading .tflite needs the package tflite")
    config = finetune.get_config("lite0")
    config.init_from = str(shared / "weights" / "efficientdet_lite0_coco_int8.tflite")
    config.data = tiny_config().data
    config.train.batch_size = 1
    config.model.image_hw = (64, 64)
    monkeypatch.setattr("bifpn_jax.runs.starting_weights._CALIBRATION_BATCHES", 1)
    train_source, _ = building.sources(config)
    model = building.model(config, train_source.label_map)
    said = []
    variables = initial_variables(config, model, train_source, say=said.append)
    assert "batch norms are folded away" in said[-1]
    mean = variables["batch_stats"]["backbone"]["stem_bn"]["mean"]
    assert np.any(mean != 0)


def test_missing_weights_are_said_in_one_line(tiny_config):
    config = tiny_config()
    config.init_from = "runs/nowhere.pth"
    with pytest.raises(UserError, match=r"runs/nowhere\.pth: no such file or folder; give an"):
        initial_variables(config, building.model(config, LABEL_MAP), source=None)


def settings_taken(config, workdir=Path("no workdir yet")):
    """The config with settings of the weights, and what was said."""
    said = []
    return with_settings_of_weights(config, workdir, said.append), said


@pytest.fixture
def finetune_config(tmp_path):
    """Fine-tunes a file of D0's weights that says it was trained with other settings."""

    def make(name="tf_efficientdet_d0_ap-d0cdbd0a.pth", **model):
        path = tmp_path / name
        names = (
            "backbone.conv_stem.weight",
            "fpn.cell.0.fnode.0.after_combine.conv.conv_dw.weight",
            "class_net.predict.conv_dw.weight",
            "box_net.predict.conv_dw.weight",
        )
        write_pth(path, {name: np.zeros(1, np.float32) for name in names})
        config = finetune.get_config("d0")
        config.init_from = str(path)
        config.model.update(model)
        return config

    return make


def test_finetuning_takes_the_settings_of_the_weights(finetune_config):
    config, said = settings_taken(finetune_config())
    assert config.model.mean_rgb == config.model.std_rgb == (127.5, 127.5, 127.5)
    assert config.data.antialias is True
    assert len(said) == 3
    assert "config.data.antialias=True, as the weights were trained with (it was False)" in said
    assert config.model.width == 64


def test_what_the_config_sets_otherwise_stays(finetune_config):
    config, said = settings_taken(finetune_config(mean_rgb=(1.0, 2.0, 3.0)))
    assert config.model.mean_rgb == (1.0, 2.0, 3.0)
    assert config.model.std_rgb == (127.5, 127.5, 127.5)
    assert len(said) == 2


def test_other_runs_and_runs_from_nothing_keep_their_settings(finetune_config):
    config = finetune_config()
    config.init_settings = False
    assert settings_taken(config) == (config, [])
    config.update({"init_settings": True, "init_from": ""})
    assert settings_taken(config) == (config, [])


def test_a_run_that_goes_on_needs_no_weights(finetune_config, monkeypatch):
    begun, _ = settings_taken(finetune_config())
    config = finetune_config()
    config.init_from = "gone.pth"
    meta = {"config": json.loads(begun.to_json())}
    monkeypatch.setattr(starting_weights, "has_checkpoint", lambda workdir: True)
    monkeypatch.setattr(starting_weights, "restore_meta", lambda workdir, step: meta)
    again, _ = settings_taken(config)
    again.init_from = begun.init_from
    assert json.loads(again.to_json()) == json.loads(begun.to_json())


def test_settings_of_a_run_of_our_own(trained, exported, tiny_config):
    for source in (trained, exported):
        config = finetune.get_config("d0")
        config.init_from = str(source)
        config, _ = settings_taken(config)
        model = tiny_config().model
        for name in ("backbone", "width", "image_hw", "max_level", "head_repeats"):
            assert config.model[name] == model[name], name
        assert config.model.num_classes == 0


def test_code_of_others_is_not_taken(exported, tmp_path):
    metadata = read_safetensors(exported)[1]
    saved = json.loads(metadata["config"])
    saved["model"]["fusion"] = "evil.py:f"
    arrays = {"params/backbone/x": np.ones(1, np.float32)}
    write_safetensors(tmp_path / "x.safetensors", arrays, metadata | {"config": json.dumps(saved)})
    config = finetune.get_config("d0")
    config.init_from = str(tmp_path / "x.safetensors")
    with pytest.raises(
        UserError, match=r"model\.fusion=evil\.py:f, code in a file that is not run without consent"
    ):
        settings_taken(config)


def test_the_recipe_starts_from_published_weights():
    catalog = weights_catalog()
    for model in MODELS:
        detector, backbone = (finetune.get_config(f"{model}{more}") for more in ("", ",backbone"))
        assert catalog[detector.init_from].model == model
        assert catalog[detector.init_from].is_detector
        assert catalog[backbone.init_from].model == MODELS[model].backbone
        assert not catalog[backbone.init_from].is_detector
    assert finetune.get_config("d0,debug").init_from == ""


def test_weights_that_cannot_be_had_are_one_line():
    config = finetune.get_config("d0")
    config.init_from = "runs/nowhere.pth"
    with pytest.raises(UserError, match=r"^config\.init_from=runs/nowhere\.pth: .*no such file"):
        settings_taken(config)


def test_a_run_from_nothing_says_so(tiny_config, monkeypatch):
    monkeypatch.setattr("bifpn_jax.runs.starting_weights.init_variables", lambda model, seed: seed)
    said = []
    assert initial_variables(tiny_config(), None, source=None, say=said.append) == 0
    assert said == ["weights: none to start from (config.init_from), drawn with seed 0"]
