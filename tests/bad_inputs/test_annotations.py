"""COCO files that say what cannot be: the command that trains on them refuses each in a line."""

import json
import os

import pytest
from in_process import assert_refused

NAN, INFINITY = float("nan"), float("inf")


def text(content):
    """Replaces the file's whole content."""

    def change(coco):
        data = content if isinstance(content, bytes) else content.encode()
        coco.annotations.write_bytes(data)

    return change


def put(key, index, field, value):
    """Sets a field of one entry of a list."""

    def change(coco):
        coco.content[key][index][field] = value
        coco.write()

    return change


def box(*values):
    return put("annotations", 0, "bbox", list(values))


def folder_instead(coco):
    coco.annotations.unlink()
    coco.annotations.mkdir()


def pipe_instead(coco):
    coco.annotations.unlink()
    os.mkfifo(coco.annotations)


def several_lists(coco):
    coco.content["annotations"] = {"11": coco.content["annotations"][0]}
    coco.write()


def same_names_twice(coco):
    coco.content["categories"][1]["name"] = "cat"
    coco.write()


def every_box(*values):
    """Gives every annotation this box."""

    def change(coco):
        for annotation in coco.content["annotations"]:
            annotation["bbox"] = list(values)
        coco.write()

    return change


def repeated(coco):
    coco.content["annotations"].append(coco.content["annotations"][2])
    coco.write()


# Name -> (damage, what must be said).
FILES = {
    "empty file": (text(""), "not JSON at line 1, column 1"),
    "null": (text("null"), "no list called 'images'"),
    "a number": (text("3"), "no list called 'images'"),
    "cut off": (text('{"images": [{"id": 1, "file_na'), "not JSON at line 1"),
    "two documents": (text('{"images": []} {"images": []}'), "not JSON at line 1, column 16"),
    "CSV": (text("file,x,y\nfirst.jpg,1,2\n"), "not JSON at line 1"),
    "XML": (text("<annotation/>"), "not JSON at line 1"),
    "not UTF-8": (text(b'{"images": "\xff\xfe"}'), "not a text file"),
    "UTF-16": (text('{"images": []}'.encode("utf-16")), "not a text file"),
    "an image": (text(b"\xff\xd8\xff\xe0" + bytes(90)), "not a text file"),
    "deep nesting": (text("[" * 100_000), "JSON that cannot be read"),
    "a number of 5000 digits": (text('{"images": ' + "9" * 5000 + "}"), "JSON that cannot be"),
    "a folder": (folder_instead, "cannot be read .a folder, pipe or device"),
    "a pipe": (pipe_instead, "cannot be read .a folder, pipe or device"),
    "an object for a list": (several_lists, "no list called 'annotations'"),
    "annotations of COCO captions": (
        put("annotations", 0, "bbox", None),
        "annotation 11 .image 1, first.jpg. has the bbox None",
    ),
}
RECORDS = {
    "NaN in a box": (box(NAN, 1, 2, 3), "annotation 11 .* not a number"),
    "infinite box": (box(0, 0, INFINITY, 3), "annotation 11 .* not a number"),
    "negative width": (box(20, 20, -5, 5), "annotation 11 .* negative size"),
    "inverted box": (box(20, 20, -5, -5), "annotation 11 .* negative size"),
    "box of no area": (box(20, 20, 0, 5), "annotation 11 .* zero width or height"),
    "box outside": (box(100, 100, 5, 5), "annotation 11 .* outside of the image"),
    "box half outside": (box(40, 20, 40, 5), "annotation 11 .* reaches outside"),
    "huge box": (box(0, 0, 1e308, 1e308), "annotation 11 .* reaches outside"),
    "numbers as text": (box("5", "6", "20", "30"), "annotation 11 .* has the bbox"),
    "box of booleans": (box(True, 1, 2, 3), "annotation 11 .* has the bbox"),
    "five numbers": (box(1, 2, 3, 4, 5), "annotation 11 .* has the bbox"),
    "nested box": (box([1, 2], 3, 4, 5), "annotation 11 .* has the bbox"),
    "a whole number beyond floats": (box(0, 0, 10**400, 1), "annotation 11 .* has the bbox"),
    "boxes relative to the image": (
        every_box(0.1, 0.2, 0.5, 0.25),
        r"nearly all of its 4 boxes lie within 0..1, .* \(multiply x and width by",
    ),
    "boxes as YOLO has them": (
        every_box(0.6, 0.5, 0.6, 0.5),
        r"nearly all of its 4 boxes lie within 0..1, .* YOLO's \[x and y of the centre",
    ),
    "corners": (
        every_box(30, 25, 55, 38),
        r"nearly all look like \[x0, y0, x1, y1\]; give \[x0, y0, x1 - x0, y1 - y0\]",
    ),
    "corners, y first": (
        every_box(25, 30, 38, 55),
        r"nearly all look like \[y0, x0, y1, x1\]; give \[x0, y0, x1 - x0, y1 - y0\]",
    ),
    "annotation id twice": (repeated, r"annotations\[2\] and annotations\[4\] both have the id 13"),
    "image id twice": (
        put("images", 1, "id", 1),
        r"images\[0\] and images\[1\] both have the id 1",
    ),
    "category id twice": (put("categories", 1, "id", 1), "both have the id 1"),
    "category name twice": (same_names_twice, "categories 1 and 2 are both called 'cat'"),
    "unknown category": (put("annotations", 0, "category_id", 9), "unknown category 9"),
    "category by name": (put("annotations", 0, "category_id", "cat"), "unknown category 'cat'"),
    "unknown image": (put("annotations", 0, "image_id", 9), "annotation 11 belongs to image 9"),
    "image by name": (put("annotations", 0, "image_id", "1"), "belongs to image '1'"),
    "id as text": (put("annotations", 0, "id", "11"), r"annotations\[0\] has the id '11'"),
    "id as a fraction": (put("images", 0, "id", 1.5), r"images\[0\] has the id 1.5"),
    "id as a boolean": (put("categories", 0, "id", True), r"categories\[0\] has the id True"),
    "huge id": (put("images", 0, "id", 2**70), r"images\[0\] has the id \d+"),
    "negative size": (put("images", 0, "width", -60), "image 1 .* width -60"),
    "size as text": (put("images", 0, "height", "40"), "image 1 .* height '40'"),
    "size as NaN": (put("images", 0, "height", NAN), "image 1 .* height nan"),
    "file name as a number": (put("images", 0, "file_name", 1), "image 1 has no file_name"),
    "file name of two lines": (put("images", 0, "file_name", "a\nb.jpg"), "more than one line"),
    "category name as a number": (put("categories", 0, "name", 3), r"categories\[0\] has no name"),
    "crowd of 2": (put("annotations", 0, "iscrowd", 2), "annotation 11 .* has the iscrowd 2"),
    "area of NaN": (put("annotations", 0, "area", NAN), "annotation 11 .* has the area nan"),
    "area as text": (put("annotations", 0, "area", "600"), "annotation 11 .* has the area '600'"),
}
CASES = FILES | RECORDS


@pytest.mark.parametrize("case", CASES)
def test_a_bad_annotation_file_is_refused(case, coco, train_on, tmp_path):
    change, words = CASES[case]
    change(coco)
    before = coco.annotations.read_bytes() if coco.annotations.is_file() else None
    ended = train_on()
    assert_refused(ended, words, str(coco.annotations), ";")
    assert not (tmp_path / "run").exists()
    assert before is None or coco.annotations.read_bytes() == before


def test_classes_that_differ_between_training_and_evaluation(coco, train_on, tmp_path):
    content = json.loads(coco.annotations.read_text())
    content["categories"][0]["name"] = "cow"
    other = tmp_path / "other.json"
    other.write_text(json.dumps(content))
    ended = train_on(f"--config.data.eval_annotations={other}")
    assert_refused(ended, "'cow' .id 1, which .* calls 'cat'.")
