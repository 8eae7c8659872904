"""Workdirs, files and names as detectors: what was trained is what is loaded."""

import json
import shutil

import jax
import numpy as np
import pytest

from bifpn_jax.command_line.trained_model import run_config
from bifpn_jax.data.sources.shapes import LABEL_MAP
from bifpn_jax.errors import UserError
from bifpn_jax.exporting import save_detector
from bifpn_jax.train.checkpoint_reader import read_weights
from bifpn_jax.trained import load_detector


def test_everything_comes_from_the_workdir(trained, tiny_config):
    detector = load_detector(trained)
    model = detector.model
    assert detector.label_map == LABEL_MAP
    assert detector.class_names == LABEL_MAP.names
    assert (model.num_classes, model.width, detector.image_hw) == (4, 16, (64, 64))
    assert model.axis_name is None
    expected = tiny_config()
    config = run_config(detector)
    assert config.optimizer.name == expected.optimizer.name
    assert config.data.shapes.sides == [48, 72]
    assert detector.antialias is expected.data.antialias
    assert detector.postprocessing["nms_method"] == expected.eval.nms_method
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), np.float32)
    outputs = jax.eval_shape(
        lambda v, x: model.apply(v, x, train=False), detector.variables, images
    )
    assert outputs.class_logits.shape[2] == 4


def test_steps_and_kinds_of_weights(trained):
    def stem(**options):
        variables = load_detector(trained, **options).variables
        return variables["params"]["backbone"]["stem_conv"]["kernel"]

    expected = read_weights(trained, 20, ema=False)["params"]["backbone"]["stem_conv"]["kernel"]
    np.testing.assert_array_equal(stem(step=20, ema=False), expected)
    assert not np.array_equal(stem(step=20), expected)
    assert not np.array_equal(stem(step="latest"), stem(step=20))
    with pytest.raises(UserError, match=r"no checkpoint 7; there are latest: \[20, 24\]"):
        load_detector(trained, step=7)


def test_which_checkpoint_it_was_is_said(trained):
    latest = load_detector(trained, step="latest", ema=False)
    assert latest.step == 24
    assert latest.source == f"{trained} (step 24, latest checkpoint, raw weights)"
    best = load_detector(trained)
    assert best.source == f"{trained} (step {best.step}, best checkpoint, averaged weights)"
    assert repr(best) == f"Detector({best.source}: 4 classes, 64x64 pixels)"


def test_the_name_is_checked(trained):
    assert load_detector(trained, "d0").model == load_detector(trained, "tiny").model
    with pytest.raises(UserError, match="holds a d0, not a d1: use model=d0, or leave it out"):
        load_detector(trained, "d1")


def test_what_is_given_replaces_what_was_trained(trained):
    plain = load_detector(trained)
    changed = load_detector(
        trained,
        class_names=("a", "b", "c", "d"),
        antialias=True,
        score_threshold=0.3,
        image_hw=(64, 96),
        aspect_ratios=(0.5, 1.0, 2.0),
        nms_method="hard",
        max_detections=7,
    )
    assert changed.class_names == ("a", "b", "c", "d")
    assert changed.label_map.category_ids == plain.label_map.category_ids
    assert (changed.antialias, changed.score_threshold) == (True, 0.3)
    assert changed.image_hw == (64, 96)
    assert changed.model.aspect_ratios == (0.5, 1.0, 2.0)
    assert changed.model.width == plain.model.width == 16
    assert changed.postprocessing == {
        **plain.postprocessing,
        "nms_method": "hard",
        "max_detections": 7,
    }
    assert run_config(changed).data.source == "shapes"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widht": 8}, "a detector has no setting 'widht'; did you mean width"),
        ({"nms": "hard"}, "a detector has no setting 'nms'"),
        ({"width": 24}, r"its weights do not fit a model with width=24"),
        ({"aspect_ratios": (1.0, 2.0)}, r"its weights do not fit a model with aspect_ratios="),
        ({"fusion": "fsat"}, "unknown fusion 'fsat': did you mean 'fast'"),
        ({"image_hw": "64"}, "image_hw='64' must be a list of numbers"),
        ({"image_hw": (64,)}, r"image_hw=\(64,\) must be height and width in pixels"),
        ({"nms_method": "soft"}, "method 'soft'"),
        ({"max_detections": 0}, "max_detections=0 must be a whole number, at least 1"),
        ({"pre_nms_top_k": 0.5}, "pre_nms_top_k=0.5 must be a whole number"),
        ({"iou_threshold": 50}, "iou_threshold=50 must be between 0 and 1"),
        ({"sigma": 0.0}, "sigma=0.0 must be greater than 0"),
        ({"score_threshold": 40}, "score_threshold=40 must be between 0 and 1"),
        ({"class_names": ("a",)}, r"class_names has 1 names but .* has 4 classes"),
    ],
)
def test_settings_that_cannot_be(trained, settings, message):
    with pytest.raises(UserError, match=message) as error:
        load_detector(trained, **settings)
    assert "\n" not in str(error.value)


def test_paths_that_are_no_workdir(trained, tmp_path):
    cases = {
        tmp_path / "absent": "no such file or folder; give an effdet or timm .pth",
        tmp_path: "is not the workdir of a training run; that is a folder with checkpoints/ in it",
        trained / "checkpoints" / "latest": f"{trained} is one",
        trained / "config.json": "holds no weights that can be read; give an effdet or timm .pth",
        tmp_path / "d0.pth": "d0.pth",
    }
    (tmp_path / "d0.pth").write_bytes(b"PK")
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    cases[tmp_path / "empty"] = "no checkpoint below checkpoints/"
    for path, message in cases.items():
        with pytest.raises(UserError) as error:
            load_detector(path)
        assert message in str(error.value)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def copy(trained, tmp_path_factory):
    """A workdir of its own, to be changed."""
    return shutil.copytree(trained, tmp_path_factory.mktemp("copies") / "run")


def test_a_model_of_ones_own_is_postprocessed_as_in_the_run(trained, tmp_path):
    run = load_detector(trained, nms_method="hard", max_detections=7)
    save_detector(tmp_path / "x.safetensors", run)
    own = load_detector(tmp_path / "x.safetensors", run.model)
    assert own.postprocessing == run.postprocessing


def test_data_and_postprocessing_are_those_the_run_was_last_started_with(copy):
    config = json.loads((copy / "config.json").read_text())
    config["data"]["eval_images"] = "elsewhere"
    config["eval"]["nms_method"] = "hard"
    config["model"]["width"] = 1000  # the checkpoint knows better
    (copy / "config.json").write_text(json.dumps(config))
    detector = load_detector(copy)
    assert run_config(detector).data.eval_images == "elsewhere"
    assert detector.postprocessing["nms_method"] == "hard"
    assert detector.model.width == 16
    (copy / "config.json").write_text("[]")
    with pytest.raises(UserError, match=r"config\.json does not hold the config of a run"):
        load_detector(copy)
    (copy / "config.json").unlink()
    assert load_detector(copy).postprocessing["nms_method"] == "gaussian"
