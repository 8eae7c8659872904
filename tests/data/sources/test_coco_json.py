import json
import os
import re

import cv2
import numpy as np
import pytest

from bifpn_jax.data.sources.coco_folder import CocoJson
from bifpn_jax.errors import UserError

NAN, INFINITY = float("nan"), float("inf")


def test_records_hold_what_the_file_says(coco_folder):
    source = coco_folder.open()
    assert len(source) == 2
    assert source.label_map.category_ids == (2, 5)
    assert source.label_map.names == ("cat", "dog")
    a, b = source
    assert (a.image_id, b.image_id) == (7, 3)
    assert a.encoded == (coco_folder.images / "a.jpg").read_bytes()
    assert a.original_hw == (40, 60)
    assert a.boxes.dtype == np.float32
    assert a.boxes.tolist() == [[0, 0, 40, 60], [5, 10, 35, 30]]
    assert a.labels.tolist() == [0, 1]
    assert a.is_crowd.tolist() == [True, False]
    assert a.area.tolist() == [2400, 600]
    assert b.boxes.tolist() == [[2.25, 1.5, 22.25, 11.5]]
    assert b.area[0] == np.float32(123.456)
    assert source.box_counts().tolist() == [1, 1]
    assert "2 images (0 without objects), 3 boxes (1 crowds), 2 classes" in source.summary()


def test_ground_truth_is_the_original_file(coco_folder):
    truth = coco_folder.open().ground_truth()
    by_id = {annotation["id"]: annotation for annotation in truth["annotations"]}
    assert sorted(by_id) == [11, 12, 13]
    assert by_id[11] == {
        "id": 11,
        "image_id": 3,
        "category_id": 5,
        "bbox": [1.5, 2.25, 10, 20],
        "area": 123.456,
        "iscrowd": 0,
    }
    assert by_id[12]["iscrowd"] == 1
    assert truth["categories"] == coco_folder.content["categories"]
    assert truth["images"] == coco_folder.content["images"]
    json.dumps(truth)


def test_annotation_id_zero_is_not_given_to_pycocotools(coco_folder):
    for i, annotation in enumerate(coco_folder.content["annotations"]):
        annotation["id"] = i
    coco_folder.write()
    truth = coco_folder.open().ground_truth()
    assert sorted(annotation["id"] for annotation in truth["annotations"]) == [1, 2, 3]


def test_images_without_objects_stay(coco_folder):
    del coco_folder.content["annotations"][0]
    coco_folder.write()
    source = coco_folder.open()
    assert source[1].boxes.shape == (0, 4)
    assert source[1].labels.shape == (0,)
    assert source.box_counts().tolist() == [1, 0]
    assert len(source.ground_truth()["images"]) == 2


def test_sizes_and_optional_fields_may_be_missing(coco_folder):
    for image in coco_folder.content["images"]:
        del image["height"], image["width"]
    coco_folder.write()
    assert [record.original_hw for record in coco_folder.open()] == [(40, 60), (50, 30)]


def test_images_in_subfolders(coco_folder):
    (coco_folder.images / "deep" / "er").mkdir(parents=True)
    os.rename(coco_folder.images / "b.png", coco_folder.images / "deep" / "er" / "b.png")
    coco_folder.content["images"][1]["file_name"] = "deep/er/b.png"
    coco_folder.write()
    assert coco_folder.open()[1].original_hw == (50, 30)


def test_byte_order_mark_is_no_fault(coco_folder):
    coco_folder.annotations.write_text(json.dumps(coco_folder.content), encoding="utf-8-sig")
    assert len(coco_folder.open()) == 2


def test_many_images_are_checked_by_threads(coco_folder):
    for i in range(100):
        name = f"{i}.jpg"
        cv2.imwrite(str(coco_folder.images / name), np.zeros((8, 9 + i, 3), np.uint8))
        coco_folder.content["images"].append({"id": 100 + i, "file_name": name})
    coco_folder.write()
    source = coco_folder.open()
    assert [record.original_hw for record in source][2:] == [(8, 9 + i) for i in range(100)]
    for i in (31, 77):
        path = coco_folder.images / f"{i}.jpg"
        path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"31.jpg: .*cut off.*\(the first of 2 bad images\)"):
        coco_folder.open()


def test_an_overhang_of_two_pixels_is_cut(coco_folder):
    coco_folder.content["annotations"][2]["bbox"] = [-1, 30, 63, 11.5]
    coco_folder.write()
    source = coco_folder.open()
    assert source[0].boxes[1].tolist() == [30, 0, 40, 60]
    assert "boxes clipped to their image: 1" in source.summary()
    boxes = {entry["id"]: entry["bbox"] for entry in source.ground_truth()["annotations"]}
    assert boxes[13] == [-1, 30, 63, 11.5]


BAD_BOXES = [
    ([NAN, 1, 5, 5], "not a number"),
    ([1, 1, 5, INFINITY], "not a number"),
    ([10, 10, -5, 5], "negative size"),
    ([10, 10, 5, 0], "zero width or height"),
    ([10, 10, 0, 5], "zero width or height"),
    ([100, 10, 5, 5], "outside of the image"),
    ([40, 10, 25, 5], "reaches outside of the image"),
    ([-3, 10, 5, 5], "reaches outside of the image"),
    ([60, 10, 1, 5], "lies outside of the image"),
]


@pytest.mark.parametrize(("box", "what"), BAD_BOXES)
def test_a_bad_box_is_named_with_its_cure(coco_folder, box, what):
    coco_folder.content["annotations"][2]["bbox"] = box
    coco_folder.write()
    with pytest.raises(UserError) as caught:
        coco_folder.open()
    message = str(caught.value)
    assert "\n" not in message
    for part in (str(coco_folder.annotations), "annotation 13", "image 7", "a.jpg", what):
        assert part in message
    assert "bad_boxes=skip" in message


@pytest.mark.parametrize(("box", "what"), BAD_BOXES)
def test_the_cure_for_a_bad_box_works(coco_folder, box, what):
    coco_folder.content["annotations"][2]["bbox"] = box
    coco_folder.content["annotations"].append(coco_folder.annotation(14, 7, 2, [1, 1, 5, 5]))
    coco_folder.write()
    skipped = coco_folder.open(bad_boxes="skip")
    assert skipped[0].boxes.tolist() == [[0, 0, 40, 60], [1, 1, 6, 6]]
    assert "bad boxes skipped: 1" in skipped.summary()
    assert 13 not in {entry["id"] for entry in skipped.ground_truth()["annotations"]}

    clipped = coco_folder.open(bad_boxes="clip")
    if what == "reaches outside of the image":
        y0, x0, y1, x1 = clipped[0].boxes[1].tolist()
        assert (y0, y1) == (box[1], box[1] + box[3])
        assert (x0, x1) == (max(0, box[0]), min(60, box[0] + box[2]))
        entry = {e["id"]: e for e in clipped.ground_truth()["annotations"]}[13]
        assert entry["bbox"] == [x0, y0, x1 - x0, y1 - y0]
        assert "boxes clipped to their image: 1" in clipped.summary()
    else:
        assert clipped[0].boxes.tolist() == skipped[0].boxes.tolist()


def test_the_number_of_bad_boxes_is_told(coco_folder):
    coco_folder.content["annotations"][1]["bbox"] = [1, 1, 0, 1]
    coco_folder.content["annotations"][2]["bbox"] = [1, 1, 1, -1]
    coco_folder.write()
    with pytest.raises(UserError, match=r"annotation 12 .*\(the first of 2 bad boxes\)"):
        coco_folder.open()


def _set(*path, value):
    def damage(folder):
        entry = folder.content
        for key in path[:-1]:
            entry = entry[key]
        entry[path[-1]] = value
        folder.write()

    return damage


def _drop(*path):
    def damage(folder):
        entry = folder.content
        for key in path[:-1]:
            entry = entry[key]
        del entry[path[-1]]
        folder.write()

    return damage


def _text(text):
    return lambda folder: folder.annotations.write_text(text)


def _truncate(name, by):
    def damage(folder):
        path = folder.images / name
        path.write_bytes(path.read_bytes()[:-by])

    return damage


FAULTS = {
    "no annotation file": (
        lambda folder: folder.annotations.unlink(),
        r"instances.json: no such annotation file; .*train_annotations=FILE",
    ),
    "annotations are a folder": (
        lambda folder: (folder.annotations.unlink(), folder.annotations.mkdir()),
        r"instances.json: cannot be read .*train_annotations=FILE",
    ),
    "annotations are an image": (
        lambda folder: folder.annotations.write_bytes((folder.images / "a.jpg").read_bytes()),
        r"instances.json: not a text file",
    ),
    "not JSON": (_text('{"images": [\n  {"id": 1,}]}'), r"not JSON at line 2, column \d+"),
    "cut off JSON": (_text('{"images": ['), r"not JSON at line 1, column \d+"),
    "a list": (_text("[1, 2]"), "no list called 'images'"),
    "no images": (_drop("images"), "no list called 'images'"),
    "no annotations": (_drop("annotations"), "no list called 'annotations'"),
    "no categories": (_drop("categories"), "no list called 'categories'"),
    "image is no object": (_set("images", 1, value="b.png"), r"images\[1\] is 'b.png'"),
    "empty images": (_set("images", value=[]), "the list of images is empty"),
    "empty annotations": (_set("annotations", value=[]), "none of its 2 images has a usable obj"),
    "only crowds": (
        lambda folder: _set(
            "annotations", value=[folder.annotation(1, 7, 2, [1, 1, 2, 2], iscrowd=1)]
        )(folder),
        "none of its 2 images has a usable object",
    ),
    "empty categories": (_set("categories", value=[]), "the list of categories is empty"),
    "duplicate image id": (_set("images", 1, "id", value=7), r"images\[0\] and images\[1\] .*id 7"),
    "duplicate annotation id": (
        _set("annotations", 2, "id", value=11),
        r"annotations\[0\] and annotations\[2\] both have the id 11",
    ),
    "duplicate category id": (
        _set("categories", 1, "id", value=5),
        r"categories\[0\] and categories\[1\] both have the id 5",
    ),
    "duplicate category name": (
        _set("categories", 1, "name", value="dog"),
        "categories 5 and 2 are both called 'dog'",
    ),
    "category without name": (_drop("categories", 1, "name"), r"categories\[1\] has no name"),
    "string id": (_set("images", 0, "id", value="7"), r"images\[0\] has the id '7'"),
    "no id": (_drop("annotations", 1, "id"), r"annotations\[1\] has the id None"),
    "no file name": (_drop("images", 1, "file_name"), "image 3 has no file_name"),
    "name of two lines": (
        _set("images", 1, "file_name", value="b\n.png"),
        r"image 3 has the file_name 'b\\n.png', which is more than one line",
    ),
    "huge size": (_set("images", 0, "width", value=2**31), "image 7 .* and width 2147483648"),
    "size as text": (_set("images", 0, "width", value="60"), r"image 7 \(a.jpg\) has .*'60'"),
    "unknown image": (
        _set("annotations", 2, "image_id", value=8),
        "annotation 13 belongs to image 8, which is not in the list of images",
    ),
    "list as image": (_set("annotations", 2, "image_id", value=[7]), r"belongs to image \[7\]"),
    "unknown category": (
        _set("annotations", 2, "category_id", value=3),
        r"annotation 13 \(image 7, a.jpg\) has the unknown category 3 .*2 'cat', 5 'dog'",
    ),
    "no category": (_drop("annotations", 2, "category_id"), "unknown category None"),
    "no box": (_drop("annotations", 2, "bbox"), "annotation 13 .* has the bbox None"),
    "short box": (_set("annotations", 2, "bbox", value=[1, 2, 3]), r"has the bbox \[1, 2, 3\]"),
    "box of text": (_set("annotations", 2, "bbox", value=["1", 2, 3, 4]), "has the bbox"),
    "huge number": (_set("annotations", 2, "bbox", value=[0, 0, 10**400, 1]), "has the bbox"),
    "crowd as text": (_set("annotations", 1, "iscrowd", value="0"), "has the iscrowd '0'"),
    "negative area": (_set("annotations", 2, "area", value=-1), "has the area -1"),
    "no folder": (
        lambda folder: folder.images.rename(folder.images.parent / "elsewhere"),
        "images: no such folder of images; .*train_images=DIR",
    ),
    "missing image": (
        lambda folder: (folder.images / "b.png").unlink(),
        "images: 1 of the 2 images named in .*instances.json are missing, the first is 'b.png'; ",
    ),
    "image one level up": (
        lambda folder: os.rename(folder.images / "b.png", folder.images.parent / "b.png"),
        r"the first is 'b.png' \(it is in .*\); .*train_images=DIR",
    ),
    "name leaves the folder": (
        _set("images", 1, "file_name", value="../b.png"),
        r"instances.json: the image '../b.png' lies outside",
    ),
    "absolute name": (
        _set("images", 1, "file_name", value="/etc/passwd"),
        "the image '/etc/passwd' lies outside",
    ),
    "truncated JPEG": (_truncate("a.jpg", 30), r"a.jpg: the image is cut off after \d+ bytes"),
    "truncated PNG": (_truncate("b.png", 30), r"b.png: the image is cut off after \d+ bytes"),
    "empty file": (
        lambda folder: (folder.images / "a.jpg").write_bytes(b""),
        "a.jpg: the file is empty",
    ),
    "not an image": (
        lambda folder: (folder.images / "a.jpg").write_text("oops"),
        "a.jpg: not an image",
    ),
    "other size": (
        _set("images", 0, "height", value=41),
        r"a.jpg: the image is 60x40 pixels \(width x height\) but the annotations say 60x41",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_one_line_with_file_record_and_cure(coco_folder, fault):
    damage, message = FAULTS[fault]
    damage(coco_folder)
    with pytest.raises(UserError) as caught:
        coco_folder.open()
    text = str(caught.value)
    assert "\n" not in text
    assert str(coco_folder.annotations.parent) in text
    assert ";" in text  # what; cure
    assert re.search(message, text), text


def test_unknown_policy(coco_folder):
    with pytest.raises(UserError, match=r"bad_boxes .*'error', 'clip', 'skip'"):
        coco_folder.open(bad_boxes="ignore")


def test_messages_name_the_settings_of_the_split(coco_folder):
    coco_folder.annotations.unlink()
    with pytest.raises(UserError, match=r"eval_annotations=FILE"):
        coco_folder.open(split="eval")


def test_a_file_that_vanishes_later_is_named(coco_folder):
    source = coco_folder.open()
    (coco_folder.images / "a.jpg").unlink()
    with pytest.raises(UserError, match=r"a.jpg: cannot be read \(No such file"):
        source[0]


def test_real_sets(shared):
    name = "instances_train2017_90.json"
    coco = CocoJson(shared / "data/coco90/images", shared / "data/coco90/annotations" / name)
    assert len(coco) == 90
    assert len(coco.objects.ids) == 803
    assert coco.objects.is_crowd.sum() == 9
    assert coco.objects.num_skipped == 0
    original = json.loads(
        (shared / "data/coco90/annotations/instances_train2017_90.json").read_text()
    )
    by_id = {annotation["id"]: annotation for annotation in original["annotations"]}
    truth = coco.ground_truth()["annotations"]
    assert len(truth) == 803
    for annotation in truth:
        assert annotation == {key: by_id[annotation["id"]][key] for key in annotation}

    for split, images, boxes in (("train", 205, 2804), ("val", 87, 1137)):
        cells = CocoJson(
            shared / f"data/bccd/{split}", shared / f"data/bccd/annotations/instances_{split}.json"
        )
        assert (len(cells), len(cells.objects.ids)) == (images, boxes)
        assert cells.label_map.names == ("RBC", "WBC", "Platelets")
