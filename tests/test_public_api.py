"""What `import bifpn_jax` offers, used as its documentation says."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import bifpn_jax
from bifpn_jax import UserError

TINY = {
    "backbone": "nano",
    "width": 8,
    "network_repeats": 1,
    "head_repeats": 1,
    "max_level": 5,
    "image_hw": (64, 64),
}


@pytest.fixture(scope="module")
def model():
    return bifpn_jax.create_model("d0", num_classes=3, **TINY)


@pytest.fixture(scope="module")
def variables(model):
    """Weights with which some anchors are sure of something: class 2 is found everywhere."""
    variables = bifpn_jax.init_variables(model, 0)
    bias = variables["params"]["class_head"]["predictor"]["pointwise"]["bias"]
    variables["params"]["class_head"]["predictor"]["pointwise"]["bias"] = (
        bias.reshape(9, 3).at[:, 2].set(1.0).reshape(-1)
    )
    return variables


@pytest.fixture(scope="module")
def detect(model, variables):
    return bifpn_jax.make_detector(model, variables, class_names=("ant", "bee", "cow"))


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(bifpn_jax.__file__).with_suffix(".pyi").read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    seen = {name.name: node.module for node in imports for name in node.names}
    assert seen == {name: f"bifpn_jax.{home}" for name, home in bifpn_jax._MODULES.items()}
    assert set(bifpn_jax.__all__) == set(seen) <= set(dir(bifpn_jax))
    for name in seen:
        assert getattr(bifpn_jax, name) is getattr(importlib.import_module(seen[name]), name)


def test_importing_the_package_does_not_import_jax():
    code = (
        "import sys, bifpn_jax; print('jax' in sys.modules);"
        "from bifpn_jax import create_model, postprocess; assert callable(postprocess);"
        "bifpn_jax.nonsense"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout == "False\n"
    assert ended.stderr.endswith("AttributeError: module 'bifpn_jax' has no attribute 'nonsense'\n")


def test_the_documented_example(monkeypatch):
    """Word for word, but on a tiny model."""
    code = inspect.cleandoc("\n".join(re.findall(r"^    .*", bifpn_jax.__doc__, re.MULTILINE)))
    create_model = bifpn_jax.create_model
    monkeypatch.setattr(bifpn_jax, "create_model", lambda *a, **k: create_model(*a, **k, **TINY))
    names = {}
    exec(compile(code, "docstring", "exec"), names)
    count = len(names["anchors"])
    assert count == len(bifpn_jax.make_anchors(names["model"], (512, 512))) > 0
    assert names["outputs"].class_logits.shape == (1, count, 90)
    assert names["outputs"].box_codes.shape == (1, count, 4)


def test_outputs_and_anchors_for_any_size(model, variables):
    images = jax.ShapeDtypeStruct((2, 65, 90, 3), np.float32)
    outputs = jax.eval_shape(lambda v, x: model.apply(v, x, train=False), variables, images)
    anchors = bifpn_jax.make_anchors(model, (65, 90))
    assert outputs.class_logits.shape == (2, len(anchors), 3)
    assert outputs.box_codes.shape == (2, len(anchors), 4)
    assert anchors.dtype == np.float32


def test_detections_of_an_image(detect):
    image = np.random.default_rng(0).integers(0, 256, (37, 81, 3), np.uint8)
    found = detect(image)
    count = len(found.scores)
    assert 0 < count <= 100
    assert found.boxes.shape == (count, 4)
    assert found.boxes.dtype == np.float32
    y0, x0, y1, x1 = found.boxes.T
    assert (y0 >= 0).all()
    assert (y0 <= y1).all()
    assert (y1 <= 37).all()
    assert (x0 >= 0).all()
    assert (x0 <= x1).all()
    assert (x1 <= 81).all()
    assert (np.diff(found.scores) <= 0).all()
    assert 0.05 <= found.scores[-1] <= found.scores[0] <= 1
    assert found.names == [("ant", "bee", "cow")[label] for label in found.labels]
    assert "cow" in found.names


def test_images_of_other_sizes_need_no_other_program(detect):
    # The last is enlarged to fill the frame; what is seen is the same.
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    first, again = detect(image), detect(image)
    np.testing.assert_array_equal(first.boxes, again.boxes)
    assert len(detect(np.zeros((1, 500, 3), np.uint8)).boxes) <= 100


@pytest.mark.parametrize(
    ("image", "what"),
    [
        (np.zeros((4, 5, 3), np.float32), r"this one is float32 \[4, 5, 3\]"),
        (np.zeros((4, 5), np.uint8), r"this one is uint8 \[4, 5\]"),
        (np.zeros((2, 4, 5, 3), np.uint8), r"this one is uint8 \[2, 4, 5, 3\]"),
        (np.zeros((4, 5, 4), np.uint8), r"this one is uint8 \[4, 5, 4\]"),
        (np.zeros((0, 5, 3), np.uint8), r"this one is uint8 \[0, 5, 3\]"),
    ],
)
def test_what_is_no_image_is_refused(detect, image, what):
    with pytest.raises(UserError, match=what):
        detect(image)


def test_one_name_per_class(model, variables):
    with pytest.raises(UserError, match="class_names has 2 names but the model has 3 classes"):
        bifpn_jax.make_detector(model, variables, class_names=("ant", "bee"))


def test_names_and_settings_that_do_not_exist():
    with pytest.raises(UserError, match="unknown model 'd9': did you mean 'd"):
        bifpn_jax.create_model("d9")
    with pytest.raises(UserError, match="unknown model setting 'widht': did you mean 'width'"):
        bifpn_jax.create_model("d0", widht=3)


def test_everything_that_is_offered_is_documented():
    for name in bifpn_jax.__all__:
        if name != "MODELS":
            assert inspect.getdoc(getattr(bifpn_jax, name)), name
