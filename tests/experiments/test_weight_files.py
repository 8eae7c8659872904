"""Models from single files of weights, and runs that start from weights."""

import json

import jax
import numpy as np
import pytest
from flax import traverse_util
from random_weights import random_variables
from torch_files import write_pth

from bifpn_jax.data.coco_categories import COCO
from bifpn_jax.data.shapes import LABEL_MAP
from bifpn_jax.errors import UserError
from bifpn_jax.models.detector import create_model
from bifpn_jax.weights import effdet, save_weights
from configs import finetune
from experiments import from_config
from experiments.export_weights import export
from experiments.initialization import initial_variables
from experiments.trained_model import load_trained


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "mine.safetensors"
    export(load_trained(trained), path)
    return path


def test_an_exported_file_stands_for_the_workdir(trained, exported):
    ours, theirs = load_trained(exported), load_trained(trained)
    jax.tree.map(np.testing.assert_array_equal, ours.variables, theirs.variables)
    assert ours.model == theirs.model
    assert ours.label_map == LABEL_MAP
    assert ours.config.to_json() == theirs.config.to_json()
    with pytest.raises(UserError, match="holds a d0, not a d1: use --model=d0, or leave it out"):
        load_trained(exported, "d1")
    with pytest.raises(UserError, match="one set of weights; leave --step out"):
        load_trained(exported, step=20)
    with pytest.raises(UserError, match=r"let the name of the file end in \.safetensors"):
        export(ours, exported.with_suffix(".bin"))


def write_effdet(path, model, num_classes=90):
    model = model.clone(num_classes=num_classes)
    variables = random_variables(model, jax.ShapeDtypeStruct((1, 128, 128, 3), np.float32))
    state_dict = {}
    for place, value in traverse_util.flatten_dict(variables).items():
        (name,) = effdet.entries(place[1:], model)
        state_dict[name] = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
    return write_pth(path, state_dict), variables


def test_a_published_file_needs_no_model_and_no_class_names(tmp_path):
    path, variables = write_effdet(tmp_path / "x.pth", create_model("d0"))
    found = load_trained(path)
    assert found.model.image_hw == (512, 512)
    assert found.label_map == COCO.with_gaps(90)
    assert found.config.name == "d0"
    assert found.config.data.antialias
    jax.tree.map(np.testing.assert_array_equal, found.variables, variables)
    with pytest.raises(UserError, match=r"does not fit --model=d1; use --model=d0\.$"):
        load_trained(path, "d1")
    with pytest.raises(UserError, match="--model=d9: there is no such model; use one of d0, d1"):
        load_trained(path, "d9")


def test_the_name_of_a_published_file_says_how_it_was_trained(tmp_path):
    path, _ = write_effdet(tmp_path / "tf_efficientdet_d0_ap-d0cdbd0a.pth", create_model("d0"))
    assert load_trained(path).model.mean_rgb == (127.5, 127.5, 127.5)


def test_classes_of_a_file_that_does_not_name_them(tmp_path):
    path, _ = write_effdet(tmp_path / "x.pth", create_model("d0"), num_classes=2)
    assert load_trained(path, class_names=["cat", "dog"]).label_map.names == ("cat", "dog")
    with pytest.raises(UserError, match="has 2 classes and not their names; give them"):
        load_trained(path)
    with pytest.raises(UserError, match=r"--class_names has 1 names but .* has 2 classes"):
        load_trained(path, class_names=["cat"])


def test_a_run_starts_from_weights_with_other_classes(exported, tiny_config, capsys):
    config = tiny_config()
    config.init_from = str(exported)
    model = from_config.model(config, LABEL_MAP).clone(num_classes=2)
    variables = initial_variables(config, model, source=None)
    saved = load_trained(exported).variables["params"]
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
    monkeypatch.setattr("experiments.initialization._CALIBRATION_BATCHES", 1)
    train_source, _ = from_config.sources(config)
    model = from_config.model(config, train_source.label_map)
    said = []
    variables = initial_variables(config, model, train_source, say=said.append)
    assert "batch norms are folded away" in said[-1]
    mean = variables["batch_stats"]["backbone"]["stem_bn"]["mean"]
    assert np.any(mean != 0)


def test_missing_weights_are_said_in_one_line(tiny_config):
    config = tiny_config()
    config.init_from = "runs/nowhere.pth"
    with pytest.raises(UserError, match=r"runs/nowhere\.pth: no such file or folder; give an"):
        initial_variables(config, from_config.model(config, LABEL_MAP), source=None)


def test_metadata_is_kept(tmp_path):
    from bifpn_jax.weights.safetensors_file import read_safetensors

    save_weights(tmp_path / "x.safetensors", {"params": {"a": np.ones(2)}}, {"x": json.dumps(1)})
    assert read_safetensors(tmp_path / "x.safetensors")[1] == {"x": "1"}
