import json

import cv2
import jax
import numpy as np
import pytest
from in_process import run_command
from torch_files import write_pth

from bifpn_jax.commands import inspect_data
from bifpn_jax.commands.inspect_data import dropped_boxes, first_training_images, inspect
from bifpn_jax.data.sources.coco_folder import CocoJson
from bifpn_jax.data.sources.shapes import DrawnShapes
from bifpn_jax.errors import UserError
from bifpn_jax.models.initial_values import variable_shapes
from bifpn_jax.recipe import building
from bifpn_jax.runs import loop, resuming
from bifpn_jax.train import devices


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


def texts_of(monkeypatch):
    """Keeps what is written on contact sheets: [(captions, title)]."""
    kept = []

    def keep(images, columns, *, captions, title, **settings):
        kept.append((captions, title))
        return sheet(images, columns, captions=captions, title=title, **settings)

    sheet = inspect_data.contact_sheet
    monkeypatch.setattr(inspect_data, "contact_sheet", keep)
    return kept


def test_pictures_and_report(tmp_path, tiny_config, monkeypatch):
    texts = texts_of(monkeypatch)
    source = write_dataset(tmp_path, 3)
    config = tiny_config()
    report = inspect(config, source, tmp_path / "out", num_images=9)
    assert "3, 1 of them without boxes" in report
    assert "100.0% of the boxes have an anchor with IoU >= 0.5" in report
    assert "window" in report
    pictures = {path.name: cv2.imread(str(path)) for path in (tmp_path / "out").iterdir()}
    assert sorted(pictures) == ["annotated.jpg", "augmented.jpg", "matched.jpg"]
    # Three to a row; the images are enlarged to about 512 pixels, with texts above them.
    assert 420 < pictures["annotated.jpg"].shape[0] < 550
    assert pictures["annotated.jpg"].shape[1] == 3 * 504 + 4
    assert 530 < pictures["augmented.jpg"].shape[0] < 650
    assert pictures["augmented.jpg"].shape[1] == 3 * 516 + 4

    model = building.model(config, source.label_map)
    batch = next(building.training_batches(config, model, source))
    ids = batch["image_id"][:3].tolist()
    names = [f"{i}.png" for i in ids]
    for captions, title in texts:
        assert [caption.split("\n")[0] for caption in captions] == names
        assert "the first 3 images of training (batch 1 of 8, seed 0)" in title
    annotated, augmented, matched = texts
    assert "80" not in annotated[1]
    assert [caption.split("\n")[1] for caption in annotated[0]] == [
        f"100x80, {0 if i == 2 else 1} box{'es' if i == 2 else ''}" for i in ids
    ]
    assert "dashed: crowds" in annotated[1]
    assert "max_boxes=4" in augmented[1]
    assert "IoU ≥ 0.5" in matched[1]
    assert ", ".join(names) in report


class _EnoughError(Exception):
    pass


def batches_of_training(config, workdir, monkeypatch, number):
    """The first host batches that the training loop asks for."""
    found = []

    def keep(iterator, fields):
        found.extend(next(iterator) for _ in range(number))
        raise _EnoughError

    with monkeypatch.context() as patch:
        patch.setattr(devices, "prefetch", keep)
        with pytest.raises(_EnoughError):
            loop.train_and_evaluate(config, workdir)
    return found


CHANGES = {
    "as it is": {},
    "images": {
        "seed": 3,
        "augment.flip": False,
        "data.antialias": True,
        "data.num_threads": 3,
        "data.max_boxes": 2,
        "train.batch_size": 16,
    },
    "frame": {
        "augment.jitter": (0.1, 2.0),
        "model.image_hw": (96, 64),
        "data.train_split": "train[5:18]",
        "data.label_space": "category_id",
    },
}


def zeros(config, model, source, say):
    """In the place of initial values, which take seconds and are not needed."""
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variable_shapes(model))


@pytest.mark.parametrize("change", CHANGES)
def test_the_images_are_those_that_training_sees(change, tmp_path, tiny_config, monkeypatch):
    config = tiny_config()
    config.update_from_flattened_dict(CHANGES[change])
    monkeypatch.setattr(resuming, "initial_variables", zeros)
    number = 10
    batches = -(-number // config.train.batch_size)
    found = batches_of_training(config, tmp_path / "run", monkeypatch, batches)
    source = building.source(config, "train")
    model = building.model(config, source.label_map)
    drawn = first_training_images(config, model, source, number)
    assert sorted(drawn) == sorted(found[0])
    for key, values in drawn.items():
        expected = np.concatenate([batch[key] for batch in found])[:number]
        np.testing.assert_array_equal(values, expected, err_msg=key)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", 3),
        ("augment.flip", False),
        ("augment.jitter", (0.1, 2.0)),
        ("data.antialias", True),
        ("model.image_hw", (96, 64)),
    ],
)
def test_settings_of_the_data_change_the_images(field, value, tiny_config):
    config = tiny_config()
    source = building.source(config, "train")

    def images():
        model = building.model(config, source.label_map)
        return first_training_images(config, model, source, 8)["image"]

    plain = images()
    config.update_from_flattened_dict({field: value})
    assert not np.array_equal(plain, images())


def test_what_is_drawn_is_what_training_sees(tmp_path, tiny_config, monkeypatch):
    """The pixels of the pictures, the boxes, the anchors, the threshold and the dropped boxes."""
    calls = {}

    def keep(name):
        draw = getattr(inspect_data, name)

        def call(*arguments, **settings):
            calls[name] = arguments, settings
            return draw(*arguments, **settings)

        monkeypatch.setattr(inspect_data, name, call)

    keep("augmented_pictures")
    keep("matched_pictures")
    config = tiny_config()
    config.update_from_flattened_dict(
        {
            "augment.flip": False,
            "data.antialias": True,
            "data.max_boxes": 1,
            "loss.iou_threshold": 0.7,
            "model.anchor_scale": 3.0,
            "model.num_scales": 2,
            "model.aspect_ratios": ((1.0, 1.0), (2.0, 0.5)),
        }
    )
    source = building.source(config, "train")
    report = inspect(config, source, tmp_path, num_images=11)
    model = building.model(config, source.label_map)
    batches = building.training_batches(config, model, source)
    expected = [next(batches), next(batches)]
    (batch, _), settings = calls["augmented_pictures"]
    for key, values in batch.items():
        joined = np.concatenate([part[key] for part in expected])[:11]
        np.testing.assert_array_equal(values, joined, err_msg=key)
    (same, anchors, iou_threshold), _ = calls["matched_pictures"]
    assert same is batch
    assert iou_threshold == 0.7
    sides = 64 // 8, 64 // 16, 64 // 32
    assert anchors.shape == (sum(side**2 for side in sides) * 2 * 2, 4)
    assert "IoU >= 0.7" in report
    counts = [len(boxes) for boxes, _ in settings["dropped"]]
    assert counts == batch["dropped_boxes"].tolist()
    assert sum(counts) > 0


def test_dropped_boxes_are_all_that_are_not_kept(tiny_config):
    config = tiny_config()
    source = building.source(config, "train")
    model = building.model(config, source.label_map)
    config.data.max_boxes = 100
    whole = first_training_images(config, model, source, 8)
    for max_boxes in (1, 2, 5):
        config.data.max_boxes = max_boxes
        batch = first_training_images(config, model, source, 8)
        for row, (boxes, labels) in enumerate(dropped_boxes(config, model, source, batch)):
            kept = batch["boxes"][row][batch["labels"][row] >= 0]
            every = whole["boxes"][row][whole["labels"][row] >= 0]
            together = np.concatenate([kept, boxes])
            np.testing.assert_array_equal(
                together[np.lexsort(together.T)], every[np.lexsort(every.T)]
            )
            assert len(labels) == len(boxes)
            if len(boxes):
                sizes = [(b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, kept)]
                assert sizes[0].max() <= sizes[1].min()


def odd_dataset(tmp_path):
    """Names in other alphabets and a long one; a crowd; boxes of the same place twice."""
    names = ["Straße.png", "写真.png", "x" * 200 + ".png", "a.png"]
    images, annotations = [], []
    for i, name in enumerate(names):
        data = cv2.imencode(".png", np.full((60, 90, 3), 40 * i, np.uint8))[1].tobytes()
        (tmp_path / name).write_bytes(data)
        images.append({"id": 7 + i, "file_name": name, "height": 60, "width": 90})
        for j in range(4):
            annotations.append(
                {
                    "id": 10 * i + j + 1,
                    "image_id": 7 + i,
                    "category_id": 1,
                    "bbox": [10, 10, 50, 40] if j < 3 else [0, 0, 90, 60],
                    "iscrowd": int(j == 3),
                }
            )
    truth = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "Ä"}]}
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(truth))
    return path


def test_names_crowds_and_dropped_boxes_are_told(tmp_path, tiny_config, monkeypatch):
    texts = texts_of(monkeypatch)
    config = tiny_config()
    config.data.max_boxes = 2
    source = CocoJson(tmp_path, odd_dataset(tmp_path))
    report = inspect(config, source, tmp_path / "out", num_images=12)
    annotated, augmented, matched = texts
    lines = dict(caption.split("\n") for caption in annotated[0])
    assert set(lines) == {"Straße.png", "image id 8", "x" * 200 + ".png", "a.png"}
    assert set(lines.values()) == {"90x60, 3 boxes, 1 crowd"}
    for captions, _ in (augmented, matched):
        assert {caption.split("\n")[1] for caption in captions} == {"2 boxes, 1 dropped"}
    assert "写真.png" in report
    assert "4 images with more than 2 boxes, 4 boxes dropped" in report


def test_an_image_in_the_place_of_a_bad_one(tmp_path, tiny_config, monkeypatch):
    texts = texts_of(monkeypatch)
    source = write_dataset(tmp_path, 4)
    (tmp_path / "1.png").write_bytes(b"no image any more")
    config = tiny_config()
    with pytest.raises(UserError, match=r"1\.png"):
        inspect(config, source, tmp_path / "out")
    config.data.bad_images = "skip"
    inspect(config, source, tmp_path / "out")
    annotated, augmented, _ = texts
    replaced = [i for i, text in enumerate(augmented[0]) if "in place of bad image 1" in text]
    assert len(replaced) == 1
    assert annotated[0][replaced[0]].startswith("2.png")
    assert all(
        text.startswith(other.split("\n")[0])
        for text, other in zip(*(t[0] for t in texts[:2]), strict=True)
    )


def test_images_without_names_go_by_their_id(tmp_path, tiny_config):
    class Nameless(DrawnShapes):
        def ground_truth(self):
            truth = super().ground_truth()
            for row, image in enumerate(truth["images"]):
                image["file_name"] = f"{self.name}, record {row}"
            return truth

    report = inspect(tiny_config(), Nameless(3, sides=(48, 72)), tmp_path)
    assert report.endswith(tuple(f"image id {i}" for i in (1, 2, 3)))


def test_more_images_than_there_are(tmp_path, tiny_config):
    config = tiny_config()
    source = DrawnShapes(1, sides=(48, 72))
    report = inspect(config, source, tmp_path, num_images=12)
    assert "the first image of training (batch 1 of 8, seed 0)" in report


def test_anchors_are_those_of_the_weights(coco_shapes, tmp_path):
    training, _ = coco_shapes()
    tensors = "backbone.conv_stem", "fpn.cell.0.fnode.0.after_combine.conv.conv_dw"
    tensors += "class_net.predict.conv_dw", "box_net.predict.conv_dw"
    path = tmp_path / "tf_efficientdet_d0_ap-d0cdbd0a.pth"
    write_pth(path, {f"{name}.weight": np.zeros(1, np.float32) for name in tensors})

    def look(weights):
        return run_command(
            "inspect",
            "--config=configs/finetune.py:d0",
            f"--config.init_from={weights}",
            f"--config.data.train_images={training.images}",
            f"--config.data.train_annotations={training.annotations}",
            "--config.model.image_hw=64",
            "--images=1",
            f"--output={tmp_path / 'out'}",
        )

    ended = look(path)
    assert ended.status == 0, ended.err
    assert "config.data.antialias=True, as the weights were trained with" in ended.out
    ended = look(tmp_path / "absent.pth")
    assert ended.status == 0, ended.err
    assert "the model's settings are those of the config, for --config.init_from=" in ended.out
