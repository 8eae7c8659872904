"""The catalog of published files is consistent, and its models can be built."""

import re
from collections import Counter

import pytest

from bifpn_jax.errors import UserError
from bifpn_jax.models.backbones.efficientnet import VARIANTS
from bifpn_jax.models.detector import create_model
from bifpn_jax.models.scaling import MODELS
from bifpn_jax.weights.published.catalog import find_published, published, weights_catalog

CATALOG = weights_catalog()


def test_names_urls_and_files_are_unique():
    for values in (
        [entry.name for entry in CATALOG.values()],
        [entry.url for entry in CATALOG.values()],
        [entry.file for entry in CATALOG.values()],
    ):
        assert [value for value, count in Counter(values).items() if count > 1] == []
    assert all(name == entry.name for name, entry in CATALOG.items())
    assert not {entry.file for entry in CATALOG.values()} & set(CATALOG)


@pytest.mark.parametrize("name", CATALOG)
def test_entry(name):
    entry = CATALOG[name]
    assert re.fullmatch(r"[\w.-]+", entry.file)
    assert entry.url.startswith("https://")
    assert entry.source.startswith("https://")
    assert re.fullmatch(r"|[0-9a-f]{8}|[0-9a-f]{64}", entry.sha256)
    if digest := re.search(r"-([0-9a-f]{8})\.pth$", entry.url):
        assert entry.sha256 == digest[1]
    assert entry.licence == "Apache-2.0"
    assert entry.kind in ("effdet", "timm", "automl", "tflite", "efficientnet_pytorch")
    detector = entry.kind in ("effdet", "tflite") or "efficientdet" in entry.url
    assert entry.is_detector == detector
    if detector:
        model = create_model(entry.model, **entry.settings)
        assert MODELS[entry.model].backbone == model.backbone
        # A published name tells the model, but for effdet's "q" models.
        assert re.search(rf"efficientdet[_-]({entry.model}(?![0-9x])|q\d)", name)
        assert entry.kind == "tflite" or 0.2 < entry.score < 0.6
    else:
        assert entry.model in VARIANTS
        create_model("d0", backbone=entry.model, **entry.settings)
        assert entry.model in entry.url
        assert 0.7 < entry.score < 0.9


def test_what_is_published_is_there():
    count = Counter((entry.kind, entry.is_detector) for entry in CATALOG.values())
    assert count == {
        ("effdet", True): 9 + 6 + 6 + 5,
        ("automl", True): 9 + 5 + 6 + 6,
        ("tflite", True): 6,
        ("timm", False): 2 * (6 + 3 * 8 + 2 + 5),
        ("efficientnet_pytorch", False): 2 * 8,
        ("automl", False): 6 + 3 * 8 + 2 + 5,
    }
    for kind in ("effdet", "automl"):
        models = {entry.model for entry in CATALOG.values() if entry.kind == kind}
        assert set(MODELS) <= models


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("tf_efficientdet_d0", "tf_efficientdet_d0"),
        ("tf_efficientdet_d0_34-f153e0cf.pth", "tf_efficientdet_d0"),
        ("some/where/tf_efficientdet_d0.pth", "tf_efficientdet_d0"),
        ("efficientdet-d0-advprop.tar.gz", "efficientdet-d0-advprop"),
        ("efficientdet-d0.tar.gz", "efficientdet-d0"),
        ("tf_efficientnet_b0.in1k.safetensors", "tf_efficientnet_b0.in1k"),
        ("efficientnet-b4-6ed6700e.pth", "efficientnet_pytorch-b4"),
    ],
)
def test_found_by_name_or_file(name, found):
    assert find_published(name).name == found
    assert published(name.rpartition("/")[2]).name == found


@pytest.mark.parametrize("name", ["model.safetensors", "efficientdet_lite0.tflite", "own.pth", ""])
def test_not_found(name):
    assert find_published(name) is None


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(UserError, match="did you mean tf_efficientdet_lite3x or") as error:
        published("tf_efficientdet_lite3-x")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="there is no similar name"):
        published("yolo")
    with pytest.raises(UserError, match="say which: efficientdet_lite0_int8, efficientdet_lite0_"):
        published("efficientdet_lite0.tflite")


def test_a_catalog_can_be_changed_without_harm():
    weights_catalog()["efficientdet_d0"].settings["padding"] = "same"
    assert weights_catalog()["efficientdet_d0"].settings["padding"] == "symmetric"
