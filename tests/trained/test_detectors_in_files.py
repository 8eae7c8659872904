"""Detectors from single files of weights."""

import json

import jax
import numpy as np
import pytest
from flax import traverse_util
from random_weights import random_variables
from tiny_model import tiny_model
from torch_files import write_pth

from bifpn_jax import named_parts
from bifpn_jax.command_line.trained_model import run_config
from bifpn_jax.data.coco.coco_categories import COCO
from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.data.records import load_image
from bifpn_jax.data.sources.shapes import LABEL_MAP, draw_record
from bifpn_jax.errors import UserError
from bifpn_jax.exporting import save_detector
from bifpn_jax.models.detector import create_model
from bifpn_jax.named_parts import trust_code
from bifpn_jax.trained import Detector, load_detector
from bifpn_jax.weights import save_weights
from bifpn_jax.weights.naming import effdet


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "mine.safetensors"
    save_detector(path, load_detector(trained))
    return path


def test_an_exported_file_stands_for_the_workdir(trained, exported):
    ours, theirs = (load_detector(path, score_threshold=0.01) for path in (exported, trained))
    jax.tree.map(np.testing.assert_array_equal, ours.variables, theirs.variables)
    assert ours.model == theirs.model
    assert ours.label_map == LABEL_MAP
    assert (ours.antialias, ours.postprocessing) == (theirs.antialias, theirs.postprocessing)
    assert run_config(ours).to_json() == run_config(theirs).to_json()
    image = draw_record(0, split="validation", sides=(48, 72))
    found = [detector(load_image(image)) for detector in (ours, theirs)]
    assert len(found[0].scores)
    jax.tree.map(np.testing.assert_array_equal, *(tuple(f[:3]) for f in found))
    with pytest.raises(UserError, match="holds a d0, not a d1: use model=d0, or leave it out"):
        load_detector(exported, "d1")
    with pytest.raises(UserError, match="one set of weights; leave step=20 out"):
        load_detector(exported, step=20)
    with pytest.raises(UserError, match=r"the file name must end in \.safetensors"):
        save_detector(exported.with_suffix(".bin"), ours)


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
    found = load_detector(path)
    assert found.model.image_hw == (512, 512)
    assert found.label_map == COCO.with_gaps(90)
    assert run_config(found).name == "d0"
    assert found.antialias
    assert found.step is None
    jax.tree.map(np.testing.assert_array_equal, found.variables, variables)
    with pytest.raises(UserError, match=r"does not fit model=d1; use model=d0\.$"):
        load_detector(path, "d1")
    with pytest.raises(UserError, match="model=d9: there is no such model; use one of d0, d1"):
        load_detector(path, "d9")


def test_the_name_of_a_published_file_says_how_it_was_trained(tmp_path):
    path, _ = write_effdet(tmp_path / "tf_efficientdet_d0_ap-d0cdbd0a.pth", create_model("d0"))
    assert load_detector(path).model.mean_rgb == (127.5, 127.5, 127.5)


def test_classes_of_a_file_that_does_not_name_them(tmp_path):
    path, _ = write_effdet(tmp_path / "x.pth", create_model("d0"), num_classes=2)
    assert load_detector(path, class_names=["cat", "dog"]).label_map.names == ("cat", "dog")
    with pytest.raises(UserError, match="has 2 classes and not their names; give them"):
        load_detector(path)
    with pytest.raises(UserError, match=r"class_names has 1 names but .* has 2 classes"):
        load_detector(path, class_names=["cat"])


CODE = "def squared(weights):\n    return weights**2\n"


def test_code_that_a_file_names_is_run_only_if_it_is_trusted(tmp_path, monkeypatch):
    code, path = tmp_path / "my_fusion.py", tmp_path / "x.safetensors"
    code.write_text(CODE)
    trust_code(f"{code}:squared")
    model = tiny_model(fusion=f"{code}:squared")
    variables = random_variables(model, jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32))
    label_map = LabelMap((1, 2, 3), ("ant", "bee", "cow"))
    save_detector(path, Detector(model, variables, label_map))
    monkeypatch.setattr(named_parts, "_trusted", set())
    with pytest.raises(UserError, match=r"fusion=.*:squared, code in a file that is not run"):
        load_detector(path)
    assert load_detector(path, trust_code=True).model == model


def test_a_part_without_a_place_cannot_be_written(tmp_path):
    model = tiny_model(fusion=lambda weights: weights**2)
    detector = Detector(model, {}, LabelMap((1, 2, 3), ("ant", "bee", "cow")))
    with pytest.raises(UserError, match="a part that is not a name and cannot be written"):
        save_detector(tmp_path / "x.safetensors", detector)


ONE_CLASS = '{"category_ids": [1], "names": ["ant"]}'


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"config": "{"}, "does not say which model and classes it is of"),
        ({"config": "[]"}, "does not say which model and classes it is of"),
        ({"config": '{"model": 5}'}, "does not say which model and classes it is of"),
        ({"config": '{"model": {"name": "d0"}}'}, "does not say which model and classes it is of"),
        (
            {
                "config": '{"model": {"nome": "d0"}}',
                "label_map": '{"category_ids": [1], "names": ["a"]}',
            },
            "unknown model setting 'nome'",
        ),
    ],
)
def test_damaged_metadata_is_one_line(tmp_path, metadata, message):
    path = tmp_path / "x.safetensors"
    save_weights(path, {"params": {"backbone": {"a": np.ones(2)}}}, metadata)
    with pytest.raises(UserError, match=message) as error:
        load_detector(path)
    assert str(path) in str(error.value) or "nome" in message
    assert "\n" not in str(error.value)


def test_a_model_of_ones_own_takes_its_weights(tmp_path):
    model = tiny_model()
    variables = random_variables(model, jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32))
    save_weights(tmp_path / "x.safetensors", variables)
    found = load_detector(tmp_path / "x.safetensors", model, class_names=["ant", "bee", "cow"])
    assert found.model == model
    assert found.class_names == ("ant", "bee", "cow")
    jax.tree.map(np.testing.assert_array_equal, found.variables, variables)
    with pytest.raises(UserError, match="has 3 classes and not their names"):
        load_detector(tmp_path / "x.safetensors", model)


def test_metadata_is_kept(tmp_path):
    from bifpn_jax.weights.formats.safetensors_file import read_safetensors

    save_weights(tmp_path / "x.safetensors", {"params": {"a": np.ones(2)}}, {"x": json.dumps(1)})
    assert read_safetensors(tmp_path / "x.safetensors")[1] == {"x": "1"}
