import json

import cv2
import numpy as np

from bifpn_jax.anchors import anchor_grid
from bifpn_jax.data.coco_json import CocoJson
from experiments.inspect_data import inspect


def write_dataset(folder, number):
    """Grey images of 80 x 100 pixels with one bright box each, the last one without."""
    images, annotations = [], []
    for i in range(number):
        image = np.full((80, 100, 3), 60, np.uint8)
        if i < number - 1:
            image[20:60, 30:70] = 220
            annotations.append(
                {"id": i + 1, "image_id": i, "category_id": 4, "bbox": [30, 20, 40, 40]}
            )
        cv2.imwrite(str(folder / f"{i}.png"), image)
        images.append({"id": i, "file_name": f"{i}.png", "height": 80, "width": 100})
    truth = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 4, "name": "window"}],
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps(truth))
    return CocoJson(folder, path)


def test_pictures_and_report(tmp_path):
    source = write_dataset(tmp_path, 3)
    hw = (64, 64)
    report = inspect(source, anchor_grid(hw), hw, tmp_path / "out", max_boxes=5, num_images=9)
    assert "3, 1 of them without boxes" in report
    assert "100.0% of the boxes" in report
    assert "window" in report
    pictures = {path.name: cv2.imread(str(path)) for path in (tmp_path / "out").iterdir()}
    assert sorted(pictures) == ["annotated.jpg", "augmented.jpg", "matched.jpg"]
    # Three to a row; the images are enlarged to about 512 pixels.
    assert pictures["annotated.jpg"].shape == (400 + 8, 3 * 504 + 4, 3)
    assert pictures["augmented.jpg"].shape == (512 + 8, 3 * 516 + 4, 3)
