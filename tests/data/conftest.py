"""Small COCO datasets written to a temporary folder, one image per file and one fault per test."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest


def noise_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


class CocoFolder:
    """A dataset of two images and three objects that a test may damage before it is opened."""

    def __init__(self, root: Path) -> None:
        self.images = root / "images"
        self.annotations = root / "instances.json"
        self.images.mkdir()
        self.sizes = {"a.jpg": (40, 60), "b.png": (50, 30)}
        for seed, (name, (height, width)) in enumerate(self.sizes.items()):
            cv2.imwrite(str(self.images / name), noise_image(height, width, seed))
        self.content = {
            "images": [
                {"id": 7, "file_name": "a.jpg", "height": 40, "width": 60},
                {"id": 3, "file_name": "b.png", "height": 50, "width": 30},
            ],
            "annotations": [
                self.annotation(11, 3, 5, [1.5, 2.25, 10, 20], area=123.456),
                self.annotation(12, 7, 2, [0, 0, 60, 40], iscrowd=1),
                self.annotation(13, 7, 5, [10, 5, 20, 30], segmentation=[[1, 2, 3, 4, 5, 6]]),
            ],
            "categories": [{"id": 5, "name": "dog"}, {"id": 2, "name": "cat"}],
        }
        self.write()

    @staticmethod
    def annotation(annotation_id, image_id, category_id, bbox, **fields) -> dict:
        return {
            "id": annotation_id,
            "image_id": image_id,
            "category_id": category_id,
            "bbox": bbox,
            **fields,
        }

    def write(self) -> None:
        self.annotations.write_text(json.dumps(self.content))

    def open(self, **options):
        from bifpn_jax.data.sources.coco_folder import CocoJson

        return CocoJson(self.images, self.annotations, **options)


@pytest.fixture
def coco_folder(tmp_path) -> CocoFolder:
    return CocoFolder(tmp_path)
