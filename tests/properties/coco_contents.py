"""COCO annotation files in order, for a folder of three images."""

import json

import cv2
import numpy as np
from hypothesis import strategies as st

from bifpn_jax.data.sources.coco_folder import CocoJson

SIZES = {"a.png": (40, 60), "b.png": (50, 30), "deep/c.png": (3, 200)}  # height, width

ids = st.integers(-2, 3) | st.integers(-(2**63) + 1, 2**63 - 2)
names = st.text(min_size=1, max_size=8)
fractions = st.integers(0, 64).map(lambda i: i / 64) | st.floats(0, 1)


class Folder:
    """Three images, and an annotation file that every case writes anew."""

    def __init__(self, root):
        self.images, self.file = root / "images", root / "instances.json"
        for name, (height, width) in SIZES.items():
            (self.images / name).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(self.images / name), np.zeros((height, width, 3), np.uint8))

    def open(self, content, **options):
        """The dataset with some content, or some bytes, as its annotation file."""
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.file.write_bytes(text)
        return CocoJson(self.images, self.file, **options)


@st.composite
def categories(draw):
    pairs = zip(
        draw(st.lists(ids, min_size=1, max_size=5, unique=True)),
        draw(st.lists(names, min_size=5, max_size=5, unique=True)),
        strict=False,
    )
    return [{"id": category_id, "name": name} for category_id, name in pairs]


@st.composite
def boxes_inside(draw, hw):
    """[x, y, width, height] inside of an image, 1/64 of it and 1.5 pixels or more along each side.

    Files of smaller ones would be refused: boxes within 0..1 look relative to the image.
    """
    height, width = hw
    least_w, least_h = max(width / 64, 1.5), max(height / 64, 1.5)
    x, y = draw(fractions) * (width - least_w), draw(fractions) * (height - least_h)
    w = draw(fractions) * (width - x - least_w) + least_w
    h = draw(fractions) * (height - y - least_h) + least_h
    return [x, y, w, h]


@st.composite
def contents(draw, boxes=boxes_inside):
    """Annotation files in order, optional fields there or not, with at least one usable object."""
    files = draw(st.lists(st.sampled_from(sorted(SIZES)), min_size=1, unique=True))
    image_ids = draw(st.lists(ids, min_size=len(files), max_size=len(files), unique=True))
    images = []
    for image_id, name in zip(image_ids, files, strict=True):
        image = {"id": image_id, "file_name": name}
        if draw(st.booleans()):
            image |= dict(zip(("height", "width"), SIZES[name], strict=True))
        images.append(image)
    classes, annotations = draw(categories()), []
    for annotation_id in draw(st.lists(ids, min_size=1, max_size=6, unique=True)):
        image = draw(st.sampled_from(images))
        annotation = {
            "id": annotation_id,
            "image_id": image["id"],
            "category_id": draw(st.sampled_from(classes))["id"],
            "bbox": draw(boxes(SIZES[image["file_name"]])),
        }
        optional = {"area": st.floats(0, 1e6), "iscrowd": st.integers(0, 1)}
        optional["segmentation"] = st.just([[0.0, 1.5, 2.0, 3.0, 4.0, 5.0]])
        for key in draw(st.sets(st.sampled_from(sorted(optional)))):
            annotation[key] = draw(optional[key])
        annotations.append(annotation)
    if all(annotation.get("iscrowd") for annotation in annotations):
        del annotations[0]["iscrowd"]
    return {"images": images, "annotations": annotations, "categories": classes}


def check_sound(source):
    """What has been opened can be trained on and evaluated, whatever stood in the file."""
    truth = source.ground_truth()
    json.dumps(truth, allow_nan=False)
    assert "\n" not in source.summary().replace(str(source.name), "")
    assert all(annotation["id"] != 0 for annotation in truth["annotations"])
    assert sum(source.box_counts()) == len(truth["annotations"]) - sum(
        annotation["iscrowd"] for annotation in truth["annotations"]
    )
    for record in source:
        height, width = record.original_hw
        limit = np.array([height, width, height, width])
        assert ((record.boxes >= 0) & (record.boxes <= limit[None])).all()
        assert ((record.labels >= 0) & (record.labels < len(source.label_map))).all()
        assert np.isfinite(record.area).all()
