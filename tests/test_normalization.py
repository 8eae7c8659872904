"""Normalisation of the images, which happens on the device."""

from functools import partial

import jax
import numpy as np
import pytest

from bifpn_jax.inference import normalize_images
from bifpn_jax.models.scaling import IMAGENET_MEAN, IMAGENET_STD, LITE_MEAN, LITE_STD

MEAN, STD = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)


def test_the_content_is_normalised_and_the_padding_is_zero():
    images = np.random.default_rng(0).integers(0, 256, (3, 6, 9, 3), np.uint8)
    content_hw = np.array([[6, 9], [4, 9], [5, 1]], np.int32)
    out = jax.jit(partial(normalize_images, mean_rgb=MEAN, std_rgb=STD))(images, content_hw)
    assert out.dtype == np.float32
    for image, normalized, (h, w) in zip(images, np.asarray(out), content_hw, strict=True):
        expected = (image - np.reshape(MEAN, (1, 1, 3))) / np.reshape(STD, (1, 1, 3))
        np.testing.assert_allclose(normalized[:h, :w], expected[:h, :w], rtol=1e-6, atol=1e-6)
        assert not normalized[h:].any()
        assert not normalized[:, w:].any()


@pytest.mark.parametrize(
    ("mean", "std", "black", "white"),
    [
        (IMAGENET_MEAN, IMAGENET_STD, (-2.1179, -2.0357, -1.8044), (2.2489, 2.4286, 2.64)),
        (LITE_MEAN, LITE_STD, (-127 / 128,) * 3, (1.0,) * 3),
    ],
)
def test_the_published_ranges(mean, std, black, white):
    images = np.array([0, 255], np.uint8)[:, None, None, None] * np.ones((1, 1, 1, 3), np.uint8)
    out = normalize_images(images, np.ones((2, 2), np.int32), mean, std)
    np.testing.assert_allclose(out[:, 0, 0], [black, white], atol=1e-4)
