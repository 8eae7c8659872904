"""Annotation files: what is written is read, and what is wrong is said in one line."""

import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.data.records import to_coco
from properties.coco_contents import SIZES, boxes_inside, categories, check_sound, contents, ids
from properties.json_damage import TOO_MUCH, answer, damaged, junk, spoiled_texts


@given(categories(), st.randoms())
def test_labels_and_category_ids_are_one_to_one(entries, random):
    label_map = LabelMap.from_coco_categories(entries)
    labels = np.arange(len(entries))
    category_ids = label_map.to_category_ids(labels)
    assert category_ids.tolist() == sorted(entry["id"] for entry in entries)
    np.testing.assert_array_equal(label_map.to_labels(category_ids), labels)
    assert {i: label_map.names[label] for label, i in enumerate(category_ids.tolist())} == {
        entry["id"]: entry["name"] for entry in entries
    }
    assert LabelMap.from_json(json.loads(json.dumps(label_map.to_json()))) == label_map
    shuffled = random.sample(entries, len(entries))
    assert LabelMap.from_coco_categories(shuffled) == label_map


@given(categories(), ids, st.integers(-(2**62), 2**62))
def test_unknown_ids_and_labels_are_refused(entries, category_id, label):
    label_map = LabelMap.from_coco_categories(entries)
    if category_id not in label_map.category_ids:
        assert answer(lambda: label_map.to_labels([category_id]), str(category_id)) is None
    if not 0 <= label < len(entries):
        assert answer(lambda: label_map.to_category_ids([label]), str(label)) is None


@given(content=contents())
def test_an_annotation_file_is_read_as_it_is(folder, content):
    source = folder.open(content)
    check_sound(source)
    truth = source.ground_truth()
    assert truth["categories"] == content["categories"]
    assert [image["id"] for image in truth["images"]] == [i["id"] for i in content["images"]]
    annotation_ids = [annotation["id"] for annotation in content["annotations"]]
    shift = 1 - min(annotation_ids) if 0 in annotation_ids else 0
    expected = {}
    for annotation in content["annotations"]:
        entry = {key: value for key, value in annotation.items() if key != "segmentation"}
        entry |= {"id": entry["id"] + shift, "iscrowd": entry.get("iscrowd", 0)}
        entry.setdefault("area", entry["bbox"][2] * entry["bbox"][3])
        expected[entry["id"]] = entry
    assert {annotation["id"]: annotation for annotation in truth["annotations"]} == expected


@given(content=contents())
def test_records_hold_the_boxes_of_their_image_in_the_order_of_the_file(folder, content):
    source = folder.open(content)
    for image, record in zip(content["images"], source, strict=True):
        own = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        assert record.image_id == image["id"]
        assert record.original_hw == SIZES[image["file_name"]]
        assert record.is_crowd.tolist() == [bool(a.get("iscrowd", 0)) for a in own]
        category_ids = source.label_map.to_category_ids(record.labels).tolist()
        assert category_ids == [a["category_id"] for a in own]
        x, y, w, h = np.array([a["bbox"] for a in own], np.float64).reshape(-1, 4).T
        boxes = np.stack([y, x, y + h, x + w], axis=1)
        boxes = np.minimum(boxes, np.tile(record.original_hw, 2)[None]).astype(np.float32)
        np.testing.assert_array_equal(record.boxes, boxes)


@given(content=contents())
def test_records_written_as_a_file_are_read_back(folder, content):
    source = folder.open(content)
    records = list(source)
    written = to_coco(records, source.label_map)
    for image, entry in zip(written["images"], content["images"], strict=True):
        image["file_name"] = entry["file_name"]
    again = folder.open(written)
    assert again.label_map == source.label_map
    for before, after in zip(records, again, strict=True):
        assert after.image_id == before.image_id
        np.testing.assert_array_equal(after.boxes, before.boxes)
        np.testing.assert_array_equal(after.labels, before.labels)
        np.testing.assert_array_equal(after.is_crowd, before.is_crowd)
        np.testing.assert_array_equal(after.area, before.area)


@given(data=st.data(), content=contents())
def test_a_damaged_file_is_refused_in_one_line_or_sound(folder, data, content):
    broken = data.draw(damaged(content))
    bad_boxes = data.draw(st.sampled_from(["error", "skip", "clip"]))
    source = answer(lambda: folder.open(broken, bad_boxes=bad_boxes), str(folder.file.parent))
    if source is not None:
        check_sound(source)


@given(data=st.data(), content=contents())
def test_a_file_that_is_no_json_is_refused_in_one_line(folder, data, content):
    text = data.draw(spoiled_texts(content) | st.binary(max_size=40))
    source = answer(lambda: folder.open(text), str(folder.file.parent))
    if source is not None:
        check_sound(source)


def any_four_numbers(hw):
    limit = st.floats(-300, 300) | st.floats() | st.integers(-300, 300)
    return st.lists(limit, min_size=4, max_size=4) | boxes_inside(hw)


@given(content=contents(boxes=any_four_numbers))
def test_bad_boxes_are_refused_left_out_or_cut(folder, content):
    strict = answer(lambda: folder.open(content), str(folder.file))
    skipped = answer(lambda: folder.open(content, bad_boxes="skip"), str(folder.file))
    clipped = answer(lambda: folder.open(content, bad_boxes="clip"), str(folder.file))
    for source in (strict, skipped, clipped):
        if source is not None:
            check_sound(source)
    assume(skipped is not None)
    number = len(content["annotations"])
    assert len(skipped.objects.ids) + skipped.objects.num_skipped == number
    assert (strict is None) == (skipped.objects.num_skipped > 0)
    # Cutting rescues boxes and loses none; those that needed no cure are the same.
    assert set(skipped.objects.ids.tolist()) <= set(clipped.objects.ids.tolist())
    own = np.isin(clipped.objects.ids, skipped.objects.ids)
    np.testing.assert_array_equal(clipped.objects.yxyx[own], skipped.objects.yxyx)
    np.testing.assert_array_equal(clipped.objects.xywh[own], skipped.objects.xywh)


@given(content=contents(boxes=any_four_numbers))
def test_an_area_that_no_file_gives_is_that_of_the_box(folder, content):
    for annotation in content["annotations"]:
        annotation.pop("area", None)
    source = answer(lambda: folder.open(content, bad_boxes="clip"))
    assume(source is not None)
    for annotation in source.ground_truth()["annotations"]:
        _, _, width, height = annotation["bbox"]
        assert annotation["area"] == width * height


@pytest.mark.parametrize("text", TOO_MUCH.values(), ids=TOO_MUCH)
def test_json_beyond_the_parser_is_refused_in_one_line(folder, text):
    assert answer(lambda: folder.open(text), str(folder.file)) is None


def is_whole(value):
    return type(value) is int and abs(value) < 2**63


HEIGHTS = {0} | {height for height, _ in SIZES.values()}  # 0 stands for "not stated"
# What each field may hold; image_id and category_id are checked against the lists of the file.
FIELDS = {
    ("images", "id"): is_whole,
    ("images", "file_name"): lambda value: value in list(SIZES),
    ("images", "height"): lambda value: type(value) is int and value in HEIGHTS,
    ("categories", "id"): is_whole,
    ("categories", "name"): lambda value: isinstance(value, str) and value,
    ("annotations", "id"): is_whole,
    ("annotations", "image_id"): is_whole,
    ("annotations", "category_id"): is_whole,
    ("annotations", "bbox"): lambda value: False,
    ("annotations", "area"): lambda value: (
        value is None or (type(value) in (int, float) and 0 <= value < 1e38)
    ),
    ("annotations", "iscrowd"): lambda value: value in (None, 0, 1),
}


def small_content():
    box = [1.0, 1, 10, 20]
    return {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 5, "file_name": "b.png"}],
        "annotations": [
            {"id": i, "image_id": 7, "category_id": 2, "bbox": [*box]} for i in range(2)
        ],
        "categories": [{"id": 2, "name": "cat"}, {"id": 1, "name": "dog"}],
    }


@pytest.mark.parametrize(("key", "field"), FIELDS)
@given(data=st.data(), row=st.integers(0, 1))
def test_a_field_with_a_wrong_value_is_refused_in_one_line(folder, key, field, data, row):
    content = small_content()
    entry = content[key][row]
    entry[field] = data.draw(junk.filter(lambda value: not FIELDS[key, field](value)))
    if field == "height":
        entry["width"] = SIZES[entry["file_name"]][1]
    assert answer(lambda: folder.open(content), str(folder.file.parent)) is None


@given(value=junk.filter(lambda v: type(v) is not float and not is_whole(v)), i=st.integers(0, 3))
def test_a_box_with_a_wrong_value_is_refused_in_one_line(folder, value, i):
    content = small_content()
    content["annotations"][1]["bbox"][i] = value
    assert answer(lambda: folder.open(content), str(folder.file)) is None
