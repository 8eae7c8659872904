import subprocess
import sys

import numpy as np
import pytest

from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.data.shapes import DrawnShapes
from bifpn_jax.data.sources import Relabelled, check_same_classes, open_source
from bifpn_jax.errors import UserError


class Classes:
    def __init__(self, name, ids, names):
        self.name, self.label_map = name, LabelMap(ids, names)


def test_coco_json_by_name(coco_folder):
    files = {
        "train_images": str(coco_folder.images),
        "train_annotations": str(coco_folder.annotations),
        "eval_images": str(coco_folder.images),
        "eval_annotations": str(coco_folder.annotations),
    }
    train = open_source("coco_json", "train", **files)
    evaluation = open_source("coco_json", "eval", **files)
    assert len(train) == len(evaluation) == 2
    check_same_classes(train, evaluation)


def test_shapes_by_name(tmp_path):
    options = {"num_train": 3, "num_eval": 2, "sides": (32, 40)}
    assert len(open_source("shapes", "train", data_dir=tmp_path, **options)) == 3
    assert len(open_source("shapes", "eval", data_dir=tmp_path, **options)) == 2
    part = open_source("shapes", "train", data_dir=tmp_path, train_split="train[:2]", **options)
    assert len(part) == 2


@pytest.mark.parametrize(
    ("split", "given", "flag"),
    [
        ("train", {}, "--config.data.train_images=DIR"),
        ("train", {"train_images": "x"}, "--config.data.train_annotations=FILE"),
        ("eval", {"train_images": "x", "train_annotations": "y"}, "--config.data.eval_images=DIR"),
        ("eval", {"eval_images": "x"}, "--config.data.eval_annotations=FILE"),
    ],
)
def test_a_missing_setting_is_named(split, given, flag):
    with pytest.raises(UserError, match=flag.replace(".", r"\.")):
        open_source("coco_json", split, **given)


def test_unknown_sources(tmp_path):
    with pytest.raises(
        UserError, match=r"no dataset 'coco_jsno' \(did you mean coco_json\?\); set"
    ):
        open_source("coco_jsno", "train", data_dir=tmp_path)
    with pytest.raises(UserError, match="'wider_face' is not prepared"):
        open_source("wider_face", "train", data_dir=tmp_path)
    with pytest.raises(UserError, match=r"no dataset ''; set --config\.data\.source to"):
        open_source("", "train")
    with pytest.raises(ValueError, match="not 'train' or 'eval'"):
        open_source("shapes", "test")


def test_classes_must_agree():
    ours = Classes("train.json", (1, 2), ("a", "b"))
    check_same_classes(ours, Classes("val.json", (1, 2), ("a", "b")))
    for ids, names, message in (
        ((1, 2), ("a", "c"), "train.json and val.json .* id 2 is 'b' in the first and 'c'"),
        ((1,), ("a",), "id 2 is 'b' in the first and 'missing'"),
        ((1, 2, 3), ("a", "b", "c"), "id 3 is 'missing' in the first and 'c'"),
        ((2, 1), ("b", "a"), "in a different order"),
    ):
        with pytest.raises(UserError, match=message):
            check_same_classes(ours, Classes("val.json", ids, names))


def test_relabelled_for_a_model_with_gaps():
    source = DrawnShapes(8, sides=(48, 64))
    wide = Relabelled(source, source.label_map.with_gaps(7))
    assert len(wide) == 8
    assert len(wide.label_map) == 7
    assert wide[0].labels.tolist() == source[0].labels.tolist()  # ids 1..4: the same labels
    assert wide.ground_truth() == source.ground_truth()
    np.testing.assert_array_equal(wide.box_counts(), source.box_counts())

    names = source.label_map.names
    turned = Relabelled(source, LabelMap((4, 3, 2, 1), names[::-1]))
    for i in range(8):
        assert turned[i].labels.dtype == np.int32
        assert turned[i].labels.tolist() == (3 - source[i].labels).tolist()


def test_relabelling_refuses_other_classes():
    source = DrawnShapes(1, sides=(48, 64))
    with pytest.raises(UserError, match="does not fit the model's classes: category id 4"):
        Relabelled(source, LabelMap((1, 2, 3), source.label_map.names[:3]))
    with pytest.raises(UserError, match="category 1 is 'circle' but the model calls it 'dot'"):
        Relabelled(source, LabelMap((1, 2, 3, 4), ("dot", *source.label_map.names[1:])))


def test_heavy_packages_are_loaded_by_their_own_modules_only():
    code = (
        "import sys\n"
        "from bifpn_jax.data import label_map, coco_categories, coco_json, transforms, sources\n"
        "heavy = {'grain', 'tensorflow_datasets', 'tensorflow', 'pycocotools', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
