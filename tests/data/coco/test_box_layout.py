"""Files whose boxes are not [x, y, width, height] in pixels: told by all boxes together."""

import json

import cv2
import numpy as np
import pytest

from bifpn_jax.data.coco.coco_objects import BAD_BOXES
from bifpn_jax.data.sources.coco_folder import CocoJson
from bifpn_jax.errors import UserError

HW = (240, 320)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Four images of one size, one of four pixels, and one that is square."""
    folder = tmp_path_factory.mktemp("images")
    sizes = {f"{i}.png": HW for i in range(4)} | {"tiny.png": (2, 2), "square.png": (240, 240)}
    for name, hw in sizes.items():
        cv2.imwrite(str(folder / name), np.zeros((*hw, 3), np.uint8))
    return folder


def opened(images, boxes, names=("0.png", "1.png", "2.png", "3.png"), **options):
    """The source of a file that has these boxes in turn on these images."""
    content = {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
        "annotations": [
            {"id": i + 1, "image_id": i % len(names), "category_id": 1, "bbox": list(map(float, b))}
            for i, b in enumerate(boxes)
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    file = images / "boxes.json"
    file.write_text(json.dumps(content))
    return CocoJson(images, file, **options)


def refused(images, boxes, **options):
    with pytest.raises(UserError) as caught:
        opened(images, boxes, **options)
    message = str(caught.value)
    assert message.startswith(f"{images / 'boxes.json'}: ")
    assert "\n" not in message
    return message


def drawn(count, seed=0, hw=HW, least=4):
    """Random good boxes [N, 4], x, y, width, height."""
    rng = np.random.default_rng(seed)
    limits = np.array(hw[::-1])
    size = least + rng.random((count, 2)) ** 2 * (limits - least)
    return np.hstack([rng.random((count, 2)) * (limits - size), size])


def relative(xywh, hw=HW):
    return xywh / np.array([*hw[::-1], *hw[::-1]])


def corners(xywh):
    return np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]])


def centres(xywh):
    return np.hstack([xywh[:, :2] + xywh[:, 2:] / 2, xywh[:, 2:]])


@pytest.mark.parametrize("count", [1, 2, 7, 60])
@pytest.mark.parametrize("bad_boxes", BAD_BOXES)
def test_relative_boxes_are_refused_whatever_the_policy(images, bad_boxes, count):
    boxes = relative(drawn(count))
    message = refused(images, boxes, bad_boxes=bad_boxes)
    assert (
        f"nearly all of its {count} boxes lie within 0..1, such as {boxes[0].tolist()}" in message
    )
    assert "multiply x and width by the image's width, y and height by its height" in message


def test_a_few_other_boxes_do_not_hide_relative_ones(images):
    boxes = relative(drawn(100))
    boxes[[3, 30, 77]] = [[20, 30, 40, 50], [0.5, 0.5, -1, 0.2], [np.nan, 0, 1, 1]]
    for bad_boxes in BAD_BOXES:
        assert "relative to the size" in refused(images, boxes, bad_boxes=bad_boxes)


def test_a_relative_box_around_the_whole_image(images):
    assert "relative to the size" in refused(images, [[0, 0, 1, 1]] * 5)


def test_yolo_boxes_are_named(images):
    large = drawn(60, least=120)
    message = refused(images, centres(relative(large)))
    assert "YOLO's [x and y of the centre, width, height] (subtract half of width" in message
    assert "[x0, y0, x1, y1] or a mixture" in refused(images, corners(relative(large)))


def test_small_images_and_small_boxes_are_no_relative_ones(images):
    assert len(opened(images, [[0, 0, 1, 1], [1, 1, 1, 1]], names=["tiny.png"])) == 1
    ones = np.ones((30, 4))
    ones[:, :2] = np.random.default_rng(0).integers(0, 240, (30, 2))  # stars, of a pixel each
    assert len(opened(images, ones).objects.ids) == 30
    # A tenth of the boxes at the origin is no reason.
    boxes = drawn(50)
    boxes[:5] = [0, 0, 1, 1]
    assert len(opened(images, boxes).objects.ids) == 50


@pytest.mark.parametrize("bad_boxes", BAD_BOXES)
@pytest.mark.parametrize(
    ("order", "name"), [([0, 1, 2, 3], "[x0, y0, x1, y1]"), ([1, 0, 3, 2], "[y0, x0, y1, x1]")]
)
def test_corners_are_refused_whatever_the_policy(images, bad_boxes, order, name):
    boxes = corners(drawn(60))[:, order]
    message = refused(images, boxes, bad_boxes=bad_boxes)
    assert f"nearly all look like {name}; give [x0, y0, x1 - x0, y1 - y0]" in message
    assert " of its 60 boxes reach far outside" in message
    boxes[[5, 9]] = [[20, 20, 5, 5], [np.nan, 1, 2, 3]]  # two that are bad as corners
    assert f"nearly all look like {name}" in refused(images, boxes, bad_boxes=bad_boxes)


@pytest.mark.parametrize("bad_boxes", BAD_BOXES)
def test_centres_are_refused_whatever_the_policy(images, bad_boxes):
    message = refused(images, centres(drawn(60)), bad_boxes=bad_boxes)
    assert "look like [x and y of the centre, width, height]; subtract half" in message


def test_good_boxes_that_overhang_are_no_centres(images):
    boxes = drawn(60)
    boxes[:30, 2:] += 1000  # half of them reach out, the others touch the left and the top
    boxes[30:40, :2] = 0
    assert len(opened(images, boxes, bad_boxes="clip").objects.ids) == 60


def test_corners_in_square_images(images):
    boxes = corners(drawn(40, hw=(240, 240)))
    message = refused(images, boxes, names=["square.png"])
    assert "look like [x0, y0, x1, y1] or [y0, x0, y1, x1]; give" in message


def test_few_corners_are_named_beside_the_usual_cure(images):
    message = refused(images, [[200, 150, 260, 200]])
    assert "if they are, give [x0, y0, x1 - x0, y1 - y0]; if not, correct the file" in message
    assert "nearly all boxes look like [x0, y0, x1, y1]" in message
    assert "bad_boxes=skip" in message
    assert len(opened(images, [[200, 150, 260, 200]], bad_boxes="clip").objects.ids) == 1


@pytest.mark.parametrize("seed", range(20))
def test_good_boxes_are_good_and_bad_ones_are_no_corners(images, seed):
    boxes = drawn(40, seed)
    source = opened(images, boxes)
    assert source.objects.num_skipped == source.objects.num_cut == 0
    assert source.objects.remarks == ()
    boxes[:12, 2:] += 300  # nearly a third reach far outside
    assert "look like" not in refused(images, boxes)
    assert opened(images, boxes, bad_boxes="skip").objects.num_skipped == 12
    assert opened(images, boxes, bad_boxes="clip").objects.num_cut == 12


def test_objects_that_fill_their_image_and_overhang_it_are_cut(images):
    """They are good corners, too, but reach outside by little."""
    rng = np.random.default_rng(0)
    boxes = np.hstack([rng.random((30, 2)) * 9, np.array([315.0, 235.0]) + rng.random((30, 2)) * 4])
    boxes[:10, :2] += 10
    for bad_boxes in ("skip", "clip"):
        source = opened(images, boxes, bad_boxes=bad_boxes)
        assert source.objects.num_cut + source.objects.num_skipped >= 10
    assert "if not, correct the file, or set" in refused(images, boxes)


def test_boxes_in_percent_are_remarked_on(images):
    boxes = relative(drawn(60)) * 100
    boxes[0] = [10, 10, 90, 90]
    assert "all boxes lie within the first 100 pixels" in opened(images, boxes).summary()
    boxes[7] = [150, 20, 30, 40]
    assert "first 100 pixels" not in opened(images, boxes).summary()
    assert "first 100 pixels" not in opened(images, drawn(60)).summary()
    # Small objects in a corner do not reach to 100, and few boxes are no evidence.
    assert "first 100 pixels" not in opened(images, drawn(60, hw=(70, 99))).summary()
    assert "first 100 pixels" not in opened(images, [[10, 10, 85, 85]]).summary()


def test_percent_of_other_layouts_are_remarked_on(images):
    boxes = 100 * drawn(60) / np.array([320, 240, 320, 240])
    for changed in (corners(boxes), centres(boxes)):
        summary = opened(images, changed, bad_boxes="clip").summary()
        assert "as if they were in percent" in summary


def test_real_sets_are_taken_and_refused_once_spoilt(shared, tmp_path):
    sets = {
        "coco90/images": "coco90/annotations/instances_train2017_90.json",
        "bccd/val": "bccd/annotations/instances_val.json",
        "deeppcb/test": "deeppcb/instances_test.json",
    }
    for folder, file in sets.items():
        content = json.loads((shared / "data" / file).read_text())
        images, spoilt = shared / "data" / folder, tmp_path / "spoilt.json"
        source = CocoJson(images, shared / "data" / file)
        assert source.objects.remarks == ()
        size = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
        boxes = [np.array([entry["bbox"]]) for entry in content["annotations"]]
        for change, words in (
            (lambda box, hw: relative(box, hw), "multiply x and width"),
            (lambda box, hw: corners(box), "[x0, y0, x1, y1]"),
            (lambda box, hw: corners(box)[:, [1, 0, 3, 2]], "[y0, x0, y1, x1]"),
            (lambda box, hw: centres(box), "of the centre"),
        ):
            if words == "of the centre" and folder == "deeppcb/test":
                continue  # its small boxes hardly reach out as centres
            for entry, box in zip(content["annotations"], boxes, strict=True):
                entry["bbox"] = change(box, size[entry["image_id"]])[0].tolist()
            spoilt.write_text(json.dumps(content))
            for bad_boxes in BAD_BOXES:
                with pytest.raises(UserError) as caught:
                    CocoJson(images, spoilt, bad_boxes=bad_boxes)
                assert words in str(caught.value)
