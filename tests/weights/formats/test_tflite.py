"""A published EfficientDet-Lite file: its numbers, its model, and files that are none."""

import contextlib

import jax
import numpy as np
import pytest

from bifpn_jax.errors import UserError
from bifpn_jax.models.detector import create_model
from bifpn_jax.weights import load_weights
from bifpn_jax.weights.formats.opening import open_weights
from bifpn_jax.weights.formats.tflite_detector import _shared_kernel, read_tflite
from bifpn_jax.weights.formats.tflite_file import read_convolutions
from bifpn_jax.weights.identify import fitting_models

pytest.importorskip("tflite", reason="reading .tflite needs the package tflite")


@pytest.fixture(scope="module")
def path(shared):
    return shared / "weights" / "efficientdet_lite0_coco_int8.tflite"


def test_scores_and_box_codes_agree_with_the_reference(path, shared):
    with np.load(shared / "goldens" / "lite0_coco_float32.npz") as file:
        reference = dict(file)
    model = create_model("lite0")
    reports = []
    variables = load_weights(path, model, report=reports.append)
    assert reports[0].folded
    assert not reports[0].unused
    assert not reports[0].initial
    assert list(reports[0].differences) == ["aspect_ratios"]
    apply = jax.jit(lambda v, x: model.apply(v, x, train=False))
    for i in range(3):
        image = (reference[f"image{i}_uint8"].astype(np.float32) - 127) / 128
        logits, codes = apply(variables, image[None])
        scores = np.asarray(jax.nn.sigmoid(logits))
        at = reference["score_index"]
        assert np.abs(scores.ravel()[at] - reference[f"image{i}_scores"]).max() < 1e-5
        # The file rounds the predictors' biases for every level anew, in steps of 1e-4.
        best = reference[f"image{i}_top_anchor"]
        assert np.abs(scores[0, best] - reference[f"image{i}_top_scores"]).max() < 1e-4
        at = reference["boxcode_index"]
        assert np.abs(np.ravel(codes)[at] - reference[f"image{i}_boxcodes"]).max() < 2e-4


def test_the_model_is_found(path):
    file = open_weights(path)
    assert [str(found) for found in fitting_models(file)] == ["lite0"]
    with pytest.raises(UserError, match=r"the model that fits is lite0\.$"):
        load_weights(file, create_model("lite2"))


def test_heads_share_a_kernel_and_differ_by_a_factor_per_channel():
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((1, 1, 6, 4)).astype(np.float32)
    factors = rng.uniform(-2, 2, (5, 4)).astype(np.float32)
    factors[0, 1], factors[:, 2] = 0, 0  # a channel that is zero at one level, and one at all
    folded = kernel * factors[:, None, None, None]
    shared, found = _shared_kernel(folded)
    np.testing.assert_allclose(shared * found[:, None, None, None], folded, atol=1e-6)
    assert np.isfinite(found).all()
    with pytest.raises(ValueError, match="more than a factor per channel"):
        _shared_kernel(rng.standard_normal((5, 1, 1, 6, 4)).astype(np.float32))


def refused(path):
    with pytest.raises(UserError) as error:
        read_tflite(path)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


def test_damaged_files_are_refused(path, tmp_path):
    data = path.read_bytes()
    damaged = tmp_path / "damaged.tflite"
    for size in [*range(8, 400, 36), *np.linspace(400, len(data) // 2, 25).astype(int)]:
        damaged.write_bytes(data[:size])
        assert "damaged or cut short" in refused(damaged)
    for size in (0, 7):
        damaged.write_bytes(data[:size])
        assert "is not a TensorFlow Lite file" in refused(damaged)
    damaged.write_bytes(b"\0" * 1000)
    assert "is not a TensorFlow Lite file" in refused(damaged)
    assert "cannot be read (No such file" in refused(tmp_path / "absent.tflite")
    assert "cannot be read (Is a directory" in refused(tmp_path)


def test_any_flipped_bytes_give_a_line_or_other_numbers(path, tmp_path):
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(0)
    flipped = tmp_path / "flipped.tflite"
    for _ in range(60):
        copy = bytearray(data)
        # Mostly where the structure is: the tables are at the end.
        for at in rng.integers(len(copy) - 200_000, len(copy), 40):
            copy[at] = rng.integers(256)
        flipped.write_bytes(copy)
        # Anything but a UserError fails here.
        with contextlib.suppress(UserError):
            read_tflite(flipped)


def test_the_same_bytes_cannot_be_asked_for_again_and_again(path, tmp_path, monkeypatch):
    import tflite

    # Every kernel claims to be the largest one.
    convolutions = read_convolutions(path)
    largest = max(convolutions, key=lambda conv: conv.kernel.size)
    monkeypatch.setattr(
        tflite.Model, "Buffers", _always_the_buffer_of(largest.kernel.size, tflite.Model.Buffers)
    )
    with pytest.raises(UserError, match="damaged or cut short"):
        read_convolutions(path)


def _always_the_buffer_of(size, buffers):
    def largest(model, _):
        every = (buffers(model, i) for i in range(model.BuffersLength()))
        return next(buffer for buffer in every if buffer.DataLength() == size)

    return largest


def test_without_the_package_there_is_one_line(path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tflite", None)
    assert "needs the package tflite; install it with pip install" in refused(path)
