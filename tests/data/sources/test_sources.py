import importlib
import inspect
import re
import subprocess
import sys

import numpy as np
import pytest

from bifpn_jax.data.coco.coco_categories import COCO
from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.data.sources.opening import FORMATS, open_source
from bifpn_jax.data.sources.relabelling import Relabelled, match_classes, result_ids
from bifpn_jax.data.sources.shapes import DrawnShapes
from bifpn_jax.errors import UserError


class Classes:
    """A source of nothing but categories, {id: name}, and annotations of some ids; else of all."""

    left_out = ()

    def __init__(self, name, categories, used=None):
        self.name, self.label_map = name, LabelMap(tuple(categories), tuple(categories.values()))
        self.used = tuple(categories) if used is None else used

    def ground_truth(self):
        categories = zip(self.label_map.category_ids, self.label_map.names, strict=True)
        return {
            "images": [],
            "annotations": [{"category_id": category_id} for category_id in self.used],
            "categories": [{"id": category_id, "name": name} for category_id, name in categories],
        }

    def summary(self):
        return self.name


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
    assert match_classes(train, evaluation) is evaluation


def test_shapes_by_name(tmp_path):
    options = {"num_train": 3, "num_eval": 2, "sides": (32, 40)}
    assert len(open_source("shapes", "train", data_dir=tmp_path, shapes=options)) == 3
    assert len(open_source("shapes", "eval", data_dir=tmp_path, shapes=options)) == 2
    part = open_source(
        "shapes", "train", data_dir=tmp_path, train_split="train[:2]", shapes=options
    )
    assert len(part) == 2


@pytest.mark.parametrize(
    ("split", "given", "flag"),
    [
        ("train", {}, "train_images=DIR"),
        ("train", {"train_images": "x"}, "train_annotations=FILE"),
        ("eval", {"train_images": "x", "train_annotations": "y"}, "eval_images=DIR"),
        ("eval", {"eval_images": "x"}, "eval_annotations=FILE"),
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
    with pytest.raises(UserError, match=r"no dataset ''; set source to"):
        open_source("", "train")
    with pytest.raises(ValueError, match="not 'train' or 'eval'"):
        open_source("shapes", "test")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_its_function(name):
    module = importlib.import_module(f"bifpn_jax.data.sources.{FORMATS[name].module}")
    assert list(inspect.signature(module.open_split).parameters) == ["settings"]


TRAIN = Classes("train.json", {1: "cat", 2: "dog", 5: "cow"})


def test_the_same_classes_need_no_matching():
    evaluation = Classes("val.json", {1: "cat", 2: "dog", 5: "cow"}, [2])
    assert match_classes(TRAIN, evaluation) is evaluation
    assert result_ids(evaluation) is evaluation.label_map


@pytest.mark.parametrize(
    ("categories", "used", "labels", "said"),
    [
        ({5: "cow", 2: "dog", 1: "cat"}, [1, 2, 5], [2, 1, 0], ""),
        ({1: "dog", 2: "cat", 5: "cow"}, [1, 2], [1, 0, 2], "2 of 3 categories have other ids"),
        ({0: "cat", 1: "dog", 2: "cow"}, [0], [0, 1, 2], "train.json .* ('cat', 0 for 1, … 3 in"),
        (
            {1: "cat", 2: "dog", 5: "cow", 9: "goat"},
            [1],
            [0, 1, 2, -1],
            "unknown to train.json, but without annotations: 'goat'",
        ),
        (
            {1: "Cat", 2: "dog", 5: "C_O W"},
            [1, 5],
            [0, 1, 2],
            "despite their spelling: 'Cat' for 'cat', 'C_O W' for 'cow'",
        ),
        ({1: "1", 2: "2", 5: "5"}, [1, 5], [0, 1, 2], "matched with train.json by id"),
    ],
)
def test_classes_are_matched_by_name(categories, used, labels, said):
    evaluation = match_classes(TRAIN, Classes("val.json", categories, used))
    assert evaluation.label_map == TRAIN.label_map
    assert evaluation.match.labels.tolist() == labels
    pattern = "^val.json$" if not said else re.escape(said).replace(r"\.\*", ".*")
    assert re.search(pattern, evaluation.summary())
    assert "\n" not in evaluation.summary()
    for label, category_id in zip(labels, categories, strict=True):
        if label >= 0:
            assert result_ids(evaluation).to_category_ids([label]).tolist() == [category_id]


@pytest.mark.parametrize(
    ("categories", "used", "message"),
    [
        ({1: "cat", 2: "hound", 5: "cow"}, [2], "val.json has annotations of categories that "),
        ({1: "cat", 2: "hound", 5: "cow"}, [2], "'hound' (id 2, which train.json calls 'dog');"),
        ({1: "cat", 2: "dog", 5: "cow", 9: "goat"}, [9], "not have: 'goat' (id 9); give them"),
        ({1: "cat", 2: "hound", 5: "cow"}, [1], "train.json has annotations of categories that"),
        ({1: "cat", 2: "hound", 5: "cow"}, [1], "'dog' (id 2, which val.json calls 'hound');"),
        ({1: "cat", 5: "cow"}, [1], "does not list: 'dog' (id 2); add them to its categories"),
        ({1: "a", 2: "b", 5: "c"}, [1, 2, 5], "'a' (id 1, which train.json calls 'cat'), 'b'"),
    ],
)
def test_classes_that_one_side_uses_alone_are_refused(categories, used, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        match_classes(TRAIN, Classes("val.json", categories, used))
    assert "\n" not in str(caught.value)


def test_many_foreign_classes_are_counted():
    evaluation = Classes("val.json", {i: f"thing {i}" for i in range(10, 30)})
    with pytest.raises(UserError, match=r"'thing 14' \(id 14\), … 20 in all; give"):
        match_classes(TRAIN, evaluation)


def test_a_class_without_annotations_may_be_in_training_alone():
    train = Classes("train.json", {1: "cat", 2: "dog", 5: "cow"}, [1, 5])
    evaluation = match_classes(train, Classes("val.json", {1: "cat", 5: "cow"}))
    assert evaluation.summary().endswith(
        "not evaluated, because they are not categories here: 'dog'"
    )
    assert result_ids(evaluation).to_category_ids([0, 1, 2]).tolist() == [1, None, 5]


def test_training_on_outputs_that_are_category_ids():
    train = Relabelled(TRAIN, TRAIN.label_map.with_gaps(7))
    assert train.summary() == "train.json"
    evaluation = match_classes(train, Classes("val.json", {0: "dog", 1: "cow", 2: "cat"}))
    assert evaluation.match.labels.tolist() == [1, 4, 0]
    ids = result_ids(evaluation).to_category_ids(range(7)).tolist()
    assert ids == [2, 0, None, None, 1, None, None]
    assert "unused" not in evaluation.summary()


def test_published_coco_models_take_any_numbering_of_coco():
    outputs = COCO.with_gaps(90)
    contiguous = dict(enumerate(COCO.names, start=1))
    source = Relabelled(Classes("mine.json", contiguous), outputs)
    theirs = outputs.to_labels(COCO.category_ids).tolist()
    assert source.match.labels.tolist() == theirs
    assert source.result_ids.to_category_ids(theirs).tolist() == list(contiguous)
    assert "69 of 80 categories have other ids" in source.summary()
    few = Relabelled(Classes("few.json", {18: "dog", 1: "person"}), outputs)
    assert "not evaluated, because they are not categories here: 'bicycle'" in few.summary()
    assert few.summary().endswith("… 78 in all")


def test_relabelling_anew_goes_by_the_categories_of_the_file():
    own = Classes("val.json", {3: "cat", 4: "cow"})
    twice = Relabelled(Relabelled(own, TRAIN.label_map), LabelMap((1, 2), ("cow", "cat")))
    assert twice.match.labels.tolist() == [1, 0]
    assert twice.result_ids.to_category_ids([0, 1]).tolist() == [4, 3]


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
    source = DrawnShapes(8, sides=(48, 64))
    names = source.label_map.names
    with pytest.raises(UserError, match=rf"that the model does not have: '{names[3]}' \(id 4\)"):
        Relabelled(source, LabelMap((1, 2, 3), names[:3]))
    with pytest.raises(UserError, match=r"'circle' \(id 1, which the model calls 'dot'\)"):
        Relabelled(source, LabelMap((1, 2, 3, 4), ("dot", *names[1:])))


def test_heavy_packages_are_loaded_by_their_own_modules_only():
    code = (
        "import sys\n"
        "import bifpn_jax.recipe.checks\n"
        "from bifpn_jax.data.sources import opening, coco_folder, box_list, relabelling\n"
        "heavy = {'grain', 'tensorflow_datasets', 'tensorflow', 'pycocotools', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
