"""The COCO builder on a tiny tree, served by this machine in the form of COCO's own archives."""

import functools
import http.server
import json
import threading
import zipfile

import cv2
import numpy as np
import pytest

from bifpn_jax.data.coco.coco_categories import COCO
from bifpn_jax.data.records import category_entries
from bifpn_jax.data.sources import coco2017
from bifpn_jax.data.sources.opening import open_source
from bifpn_jax.data.sources.tfds_set import TfdsRecords
from bifpn_jax.errors import UserError


def annotation(annotation_id, image_id, category_id, bbox, area, iscrowd=0):
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": bbox,
        "area": area,
        "iscrowd": iscrowd,
        "segmentation": [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]],
    }


FILES = {
    "train2017": {
        "images": [
            {"id": 30, "file_name": "000000000030.jpg", "height": 40, "width": 60},
            {"id": 9, "file_name": "000000000009.jpg", "height": 40, "width": 60},
        ],
        "annotations": [
            annotation(1_000_001, 9, 1, [1.08, 2.94, 20.63, 30.51], 442.5567),
            annotation(908_400_000_005, 30, 90, [0.0, 0.0, 60.0, 40.0], 1023.9999, iscrowd=1),
            annotation(7, 9, 13, [5.0, 5.0, 5.0, 0.0], 0.0),
        ],
    },
    "val2017": {
        "images": [{"id": 139, "file_name": "000000000139.jpg", "height": 40, "width": 60}],
        "annotations": [annotation(5, 139, 64, [10.01, 10.02, 10.03, 10.04], 9216.0001)],
    },
}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve the two images and the annotations as COCO does, and give the folder served."""
    root = tmp_path / "server"
    (root / "zips").mkdir(parents=True)
    (root / "annotations").mkdir()
    image = cv2.imencode(".jpg", np.full((40, 60, 3), 99, np.uint8))[1].tobytes()
    with zipfile.ZipFile(root / "annotations/annotations_trainval2017.zip", "w") as archive:
        for name, content in FILES.items():
            whole = {**content, "categories": category_entries(COCO)}
            archive.writestr(f"annotations/instances_{name}.json", json.dumps(whole))
    for name, content in FILES.items():
        with zipfile.ZipFile(root / f"zips/{name}.zip", "w") as archive:
            for entry in content["images"]:
                archive.writestr(f"{name}/{entry['file_name']}", image)
    handler = functools.partial(Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        monkeypatch.setattr(coco2017, "URL", f"http://127.0.0.1:{running.server_port}/")
        monkeypatch.setattr(coco2017, "ARCHIVES", dict.fromkeys(coco2017.ARCHIVES, 1000))
        monkeypatch.setattr(coco2017, "_PREPARED_BYTES", 1000)
        for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(variable, raising=False)
        thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield root
        running.shutdown()
        thread.join()


def test_ids_areas_and_crowds_are_kept(server, tmp_path):
    data_dir = tmp_path / "tfds"
    assert "COCO 2017 is not in" in coco2017.download_plan(data_dir)
    train = open_source("coco2017", "train", data_dir=data_dir)
    assert coco2017.download_plan(data_dir) is None
    assert train.label_map == COCO
    plain, crowd = sorted(train, key=lambda record: record.image_id)
    assert (plain.image_id, crowd.image_id) == (9, 30)
    assert crowd.is_crowd.tolist() == [True]
    assert plain.labels.tolist() == [0]
    np.testing.assert_allclose(plain.boxes, [[2.94, 1.08, 33.45, 21.71]], rtol=1e-5)
    assert plain.area[0] == np.float32(442.5567)
    assert plain.original_hw == (40, 60)

    truth = train.ground_truth()
    expected = {entry["id"]: entry for entry in FILES["train2017"]["annotations"]}
    assert sorted(entry["id"] for entry in truth["annotations"]) == [1_000_001, 908_400_000_005]
    for entry in truth["annotations"]:
        assert entry == {key: expected[entry["id"]][key] for key in entry}
    images = sorted(truth["images"], key=lambda image: image["id"], reverse=True)
    assert images == FILES["train2017"]["images"]

    validation = open_source("coco2017", "eval", data_dir=data_dir)
    assert validation.ground_truth()["annotations"][0]["area"] == 9216.0001
    assert TfdsRecords("coco2017", "validation", data_dir).label_map == COCO


def test_a_missing_archive_names_the_ways_out(server, tmp_path):
    (server / "zips/val2017.zip").unlink()
    with pytest.raises(UserError) as caught:
        coco2017.prepare_coco2017(tmp_path / "tfds")
    text = str(caught.value)
    assert "zips/val2017.zip is not available (status 404)" in text
    assert "source=coco_json train_images=DIR" in text
    assert "source=shapes" in text
    assert "\n" not in text


def test_a_damaged_archive_says_what_to_delete(server, tmp_path):
    (server / "zips/val2017.zip").write_bytes(b"half of it")
    with pytest.raises(UserError, match=r"archive is damaged .*; delete .*downloads.coco2017"):
        coco2017.prepare_coco2017(tmp_path / "tfds")
    assert "COCO 2017 is not in" in coco2017.download_plan(tmp_path / "tfds")


def test_no_server_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(coco2017, "URL", "http://127.0.0.1:9/")
    monkeypatch.setattr(coco2017, "_free_bytes", lambda folder: 10**12)
    with pytest.raises(UserError, match=r"COCO 2017 cannot be downloaded: .*coco_json"):
        coco2017.prepare_coco2017(tmp_path)


def test_too_little_space_is_told_before_the_download(tmp_path, monkeypatch):
    monkeypatch.setattr(coco2017, "_free_bytes", lambda folder: 10**9)
    with pytest.raises(UserError, match=r"needs 41 GB and 1 GB are free; .*data_dir"):
        coco2017.prepare_coco2017(tmp_path)


def test_the_plan_tells_sizes_and_place(tmp_path):
    plan = coco2017.download_plan(tmp_path / "not" / "there")
    for part in ("train2017.zip 19.3 GB", "val2017.zip 0.8 GB", "not/there", "are free"):
        assert part in plan
    assert "\n" not in plan
