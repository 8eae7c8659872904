"""The reader against sets whose schema is not ours, written by a builder as TFDS's own are."""

import json
import shutil

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath

from bifpn_jax.data.records import load_image
from bifpn_jax.data.sources.tfds_set import TfdsRecords
from bifpn_jax.errors import UserError

IMAGES = [np.random.default_rng(i).integers(0, 256, (30 + i, 40, 3), np.uint8) for i in range(4)]
BOXES = [(0.1, 0.2, 0.5, 0.75), (0.0, 0.0, 1.0, 1.0), (0.25, 0.25, 0.25, 0.5)]


class FakeVoc(tfds.core.GeneratorBasedBuilder):
    """VOC's schema: no ids, no areas, no crowds."""

    VERSION = tfds.core.Version("2.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="2007")]  # noqa: RUF012
    code_path = epath.Path(__file__)

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(),
                    "image/filename": tfds.features.Text(),
                    "objects": tfds.features.Sequence(
                        {
                            "label": tfds.features.ClassLabel(names=["aeroplane", "cow"]),
                            "bbox": tfds.features.BBoxFeature(),
                            "is_difficult": np.bool_,
                        }
                    ),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(3), "test": self._generate_examples(4)}

    def _generate_examples(self, count):
        for i in range(count):
            kind = ".png" if i % 2 else ".jpg"
            yield (
                i,
                {
                    "image": cv2.imencode(kind, IMAGES[i])[1].tobytes(),
                    "image/filename": f"{i:06d}{kind}",
                    "objects": [
                        {"label": k % 2, "bbox": tfds.features.BBox(*box), "is_difficult": True}
                        for k, box in enumerate(BOXES[:i])
                    ],
                },
            )


class FakeDigits(tfds.core.GeneratorBasedBuilder):
    """A set without objects."""

    VERSION = tfds.core.Version("1.0.0")
    code_path = epath.Path(__file__)

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {"image": tfds.features.Image(), "label": np.int64}
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"image": cv2.imencode(".png", IMAGES[0])[1].tobytes(), "label": 1}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("tfds")
    for builder in (FakeVoc, FakeDigits):
        builder(data_dir=str(root), file_format="array_record").download_and_prepare()
    return root


def test_a_set_without_ids_areas_and_crowds(prepared):
    source = TfdsRecords("fake_voc/2007", "test", prepared)
    assert len(source) == 4
    assert source.label_map.names == ("aeroplane", "cow")
    assert source.label_map.category_ids == (1, 2)
    by_name = {record.where[:6]: record for record in source}
    assert sorted(record.image_id for record in by_name.values()) == [1, 2, 3, 4]
    record = by_name["000002"]
    assert record.original_hw == load_image(record).shape[:2] == (32, 40)
    np.testing.assert_allclose(record.boxes, [[3.2, 8, 16, 30], [0, 0, 32, 40]], rtol=1e-5)
    assert record.labels.tolist() == [0, 1]
    assert record.is_crowd.tolist() == [False, False]
    np.testing.assert_allclose(record.area, [12.8 * 22, 32 * 40], rtol=1e-5)
    assert by_name["000000"].boxes.shape == (0, 4)
    assert by_name["000003"].labels.tolist() == [0, 1]  # the third box has no area
    assert sorted(source.box_counts().tolist()) == [0, 1, 2, 2]


def test_ground_truth_is_rebuilt(prepared):
    source = TfdsRecords("fake_voc/2007", "test", prepared)
    truth = source.ground_truth()
    json.dumps(truth)
    assert len(truth["images"]) == 4
    assert [annotation["id"] for annotation in truth["annotations"]] == [1, 2, 3, 4, 5]
    assert truth["categories"] == [{"id": 1, "name": "aeroplane"}, {"id": 2, "name": "cow"}]


def test_parts_of_splits_and_versions(prepared):
    assert len(TfdsRecords("fake_voc/2007:2.0.0", "test[:50%]", prepared)) == 2
    assert len(TfdsRecords("fake_voc/2007", "train", prepared)) == 3


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        (
            "voc/2012",
            "train",
            r"'voc/2012' is not prepared .*tfds.builder\('voc/2012', data_dir=",
        ),
        ("fake_voc/2012", "train", "'fake_voc/2012' is not prepared"),
        ("fake_voc", "train", r"'fake_voc' is not prepared in .* \(there is fake_voc/2007\)"),
        ("fake_voc/2007:1.0.0", "train", "is not prepared"),
        ("fake_voc/2007", "validation", r"no split 'validation'; .*_split to test or train"),
        ("fake_digits", "train", "not a detection dataset: .* but has image, label"),
    ],
)
def test_what_cannot_be_read_says_why(prepared, name, split, message):
    with pytest.raises(UserError, match=message) as caught:
        TfdsRecords(name, split, prepared)
    assert "\n" not in str(caught.value)


def test_a_tfrecord_set_says_how_to_prepare_it_again(prepared, tmp_path):
    shutil.copytree(prepared / "fake_voc", tmp_path / "fake_voc")
    info = tmp_path / "fake_voc/2007/2.0.0/dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    message = r"prepared as tfrecord.*delete.*file_format='array_record'"
    with pytest.raises(UserError, match=message):
        TfdsRecords("fake_voc/2007", "train", tmp_path)
