import jax
import numpy as np
import pytest

from bifpn_jax.data.shapes import LABEL_MAP
from bifpn_jax.errors import UserError
from bifpn_jax.train.checkpoint_reader import read_weights
from experiments.trained_model import load_trained


def test_everything_comes_from_the_workdir(trained, tiny_config):
    model, variables, label_map, config = load_trained(trained)
    assert label_map == LABEL_MAP
    assert (model.num_classes, model.width, model.image_hw) == (4, 16, (64, 64))
    assert model.axis_name is None
    assert config.optimizer.name == tiny_config().optimizer.name
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), np.float32)
    outputs = jax.eval_shape(lambda v, x: model.apply(v, x, train=False), variables, images)
    assert outputs.class_logits.shape[2] == 4


def test_steps_and_kinds_of_weights(trained):
    def stem(**options):
        return load_trained(trained, **options).variables["params"]["backbone"]["stem_conv"][
            "kernel"
        ]

    expected = read_weights(trained, 20, ema=False)["params"]["backbone"]["stem_conv"]["kernel"]
    np.testing.assert_array_equal(stem(step=20, ema=False), expected)
    assert not np.array_equal(stem(step=20), expected)
    assert not np.array_equal(stem(step="latest"), stem(step=20))
    with pytest.raises(UserError, match=r"no checkpoint 7; there are latest: \[20, 24\]"):
        load_trained(trained, step=7)


def test_the_name_is_checked(trained):
    assert load_trained(trained, "d0").model == load_trained(trained, "tiny").model
    with pytest.raises(UserError, match="holds a d0, not a d1: use --model=d0, or leave it out"):
        load_trained(trained, "d1")


def test_paths_that_are_no_workdir(trained, tmp_path):
    cases = {
        tmp_path / "absent": "no such file or folder; give an effdet or timm .pth",
        tmp_path: "is not the workdir of a training run; name a folder with checkpoints/ in it",
        trained / "checkpoints" / "latest": f"{trained} is one",
        trained / "config.json": "holds no weights that can be read; give an effdet or timm .pth",
        tmp_path / "d0.pth": "d0.pth",
    }
    (tmp_path / "d0.pth").write_bytes(b"PK")
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    cases[tmp_path / "empty"] = "no checkpoint below checkpoints/"
    for path, message in cases.items():
        with pytest.raises(UserError) as error:
            load_trained(path)
        assert message in str(error.value)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
