import json

import numpy as np
import pytest

from bifpn_jax.data.coco.coco_categories import COCO
from bifpn_jax.data.label_map import LabelMap, ResultIds
from bifpn_jax.errors import UserError

PETS = LabelMap((5, 2, 17), ("dog", "cat", "cow"))


def test_ids_and_labels_there_and_back():
    labels = PETS.to_labels([17, 5, 5, 2])
    assert labels.dtype == np.int32
    assert labels.tolist() == [2, 0, 0, 1]
    assert PETS.to_category_ids(labels).tolist() == [17, 5, 5, 2]
    assert PETS.to_labels([]).shape == (0,)
    assert PETS.to_category_ids(np.zeros(0, np.int32)).shape == (0,)


def test_coco_categories_are_sorted_by_id():
    label_map = LabelMap.from_coco_categories(
        [{"id": 9, "name": "z"}, {"id": 1, "name": "b"}, {"id": 4, "name": "a"}]
    )
    assert label_map == LabelMap((1, 4, 9), ("b", "a", "z"))


def test_coco_and_the_layout_of_the_published_models():
    assert len(COCO) == 80
    assert (COCO.category_ids[0], COCO.category_ids[-1]) == (1, 90)
    published = COCO.with_gaps(90)
    assert len(published) == 90
    assert published.to_labels([1, 12, 90]).tolist() == [0, 11, 89]
    assert published.names[11] == "unused-12"
    assert published.names[89] == "toothbrush"
    assert sum(name.startswith("unused-") for name in published.names) == 10


def test_json_round_trip():
    assert LabelMap.from_json(json.loads(json.dumps(PETS.to_json()))) == PETS


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: PETS.to_labels([4]), "category id 4 .* nearest is 5 'dog'"),
        (lambda: PETS.to_category_ids([3]), r"label 3 is not one of the 3 labels 0..2"),
        (lambda: PETS.to_category_ids([-1]), "label -1"),
        (lambda: LabelMap((1, 2), ("a",)), "2 category ids but 1 names"),
        (lambda: LabelMap((), ()), "no classes"),
        (lambda: LabelMap((1, 1), ("a", "b")), "category id 1 occurs twice"),
        (lambda: LabelMap((1, 2), ("a", "a")), "class name 'a' occurs twice"),
        (lambda: PETS.with_gaps(10), "2..17 do not fit a layout of 10 classes"),
        (lambda: LabelMap((0, 1), ("a", "b")).with_gaps(10), "needs ids 1..10"),
    ],
)
def test_errors_say_what_is_wrong(action, message):
    with pytest.raises(UserError, match=message):
        action()


def test_ids_of_results_may_be_absent():
    ids = ResultIds((7, None, 3))
    assert ids.to_category_ids(np.array([2, 0, 1, 0], np.int32)).tolist() == [3, 7, None, 7]
    assert ids.to_category_ids(np.zeros(0, np.int32)).shape == (0,)
    with pytest.raises(UserError, match=r"label 3 is not one of the 3 labels 0\.\.2"):
        ids.to_category_ids([3])
