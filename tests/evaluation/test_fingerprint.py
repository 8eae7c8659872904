import copy

import pytest

from bifpn_jax.evaluation.fingerprint import ground_truth_fingerprint

TRUTH = {
    "images": [
        {"id": 1, "file_name": "a.jpg", "height": 40, "width": 60},
        {"id": 2, "file_name": "b.jpg", "height": 30, "width": 20},
    ],
    "annotations": [
        {"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0},
        {"id": 6, "image_id": 2, "category_id": 2, "bbox": [0.5, 2, 3, 4], "area": 9, "iscrowd": 1},
    ],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
}


def rename(truth):
    truth["images"][0]["file_name"] = "elsewhere/a.jpg"


def renumber(truth):
    truth["annotations"][0]["id"] = 70


def reverse(truth):
    for entries in truth.values():
        entries.reverse()


def as_floats(truth):
    truth["annotations"][0]["bbox"] = [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("change", [rename, renumber, reverse, as_floats])
def test_where_the_data_lies_makes_no_difference(change):
    changed = copy.deepcopy(TRUTH)
    change(changed)
    assert ground_truth_fingerprint(changed) == ground_truth_fingerprint(TRUTH)


@pytest.mark.parametrize(
    ("group", "field", "value"),
    [
        ("annotations", "bbox", [1, 2, 3, 4.001]),
        ("annotations", "category_id", 2),
        ("annotations", "image_id", 2),
        ("annotations", "area", 13),
        ("annotations", "iscrowd", 1),
        ("categories", "name", "cow"),
        ("images", "id", 7),
        ("images", "height", 41),
    ],
)
def test_what_is_to_be_found_makes_one(group, field, value):
    changed = copy.deepcopy(TRUTH)
    changed[group][0][field] = value
    assert ground_truth_fingerprint(changed) != ground_truth_fingerprint(TRUTH)


@pytest.mark.parametrize("group", ["images", "annotations", "categories"])
def test_an_entry_less_makes_one(group):
    fewer = {**TRUTH, group: TRUTH[group][:1]}
    assert ground_truth_fingerprint(fewer) != ground_truth_fingerprint(TRUTH)
