import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from in_process import assert_refused, run_command

from bifpn_jax.commands.predict import eval_images, find_images, picture_names, predict_images
from bifpn_jax.data.sources.shapes import LABEL_MAP, draw_record
from bifpn_jax.errors import UserError
from bifpn_jax.inspection.pictures import zoom_for
from bifpn_jax.trained import load_detector

ROOT = Path(__file__).resolve().parents[2]


def jpeg(path, index=0):
    """Writes one of the images that the run was evaluated on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(draw_record(index, split="validation", sides=(48, 72)).encoded)
    return path


def names_of(images):
    return [image.file_name for image in images]


def test_words_become_files(tmp_path):
    first, second = jpeg(tmp_path / "b.jpg"), jpeg(tmp_path / "a.JPG")
    deep = jpeg(tmp_path / "deep" / "c.jpeg")
    (tmp_path / "notes.txt").write_text("no image")
    both = [str(second), str(first)]
    assert names_of(find_images([str(tmp_path)])) == both
    assert names_of(find_images([str(tmp_path / "*.[jJ]*")])) == both
    assert names_of(find_images([str(first), str(tmp_path), str(first)])) == both[::-1]
    assert names_of(find_images([str(tmp_path / "**" / "*.jp*g")])) == [str(first), str(deep)]
    assert find_images([]) == []


def test_words_that_name_no_image(tmp_path):
    (tmp_path / "empty").mkdir()
    jpeg(tmp_path / "whole.jpg")
    for word, message in {
        "absent.jpg": "no such image or folder",
        "*.gif": "nothing fits this glob",
        "empty": "no image in this folder",
    }.items():
        with pytest.raises(UserError) as error:
            find_images([str(tmp_path / "whole.jpg"), str(tmp_path / word)])
        assert str(tmp_path / word) in str(error.value)
        assert message in str(error.value)
        assert "\n" not in str(error.value)


def test_pictures_have_different_names():
    files = ["a/x.jpg", "b/x.jpg", "c/X.JPG", "x.png", "x.tif", "x-2.jpg", "y.webp"]
    names = picture_names(files)
    assert names == [
        "x.jpg",
        "x-2.jpg",
        "X-3.JPG",
        "x.png",
        "x-2.png",
        "x-2-2.jpg",
        "y.png",
    ]


def test_pictures_and_detections(trained, tmp_path, capsys):
    model = load_detector(trained)
    gray = tmp_path / "in" / "gray.png"
    jpeg(tmp_path / "in" / "x.jpg", 0)
    cv2.imwrite(str(gray), np.full((600, 300), 77, np.uint8))
    images = find_images([str(tmp_path / "in" / "x.jpg"), str(gray)])
    images += eval_images(model, 3)
    assert len(images) == 5
    output = tmp_path / "out"
    found = predict_images(model, images, output, score=0.01, min_score=0.01, progress=True)
    assert json.loads((output / "detections.json").read_text()) == found
    names = ["x.jpg", "gray.png", *(Path(image.file_name).name for image in images[2:])]
    assert sorted(path.name for path in output.iterdir()) == sorted([*names, "detections.json"])
    shown = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in shown] == names_of(images)

    assert found
    for detection in found:
        image = images[detection["image_id"] - 1]
        assert detection["file_name"] == image.file_name
        assert detection["picture"] == names[detection["image_id"] - 1]
        label = LABEL_MAP.category_ids.index(detection["category_id"])
        assert detection["category_name"] == LABEL_MAP.names[label]
        assert 0.01 <= detection["score"] <= 1
        x, y, width, height = detection["bbox"]
        image_height, image_width = image.read().shape[:2]
        assert min(x, y) >= 0
        assert x + width <= image_width + 1e-3
        assert y + height <= image_height + 1e-3
    # x.jpg is the first of the images that the run was evaluated on.
    results = [
        [{k: d[k] for k in ("category_id", "bbox", "score")} for d in found if d["image_id"] == i]
        for i in (1, 3)
    ]
    assert results[0] == results[1]

    # The picture is the image, enlarged, with boxes on it.
    image, picture = images[0].read(), cv2.imread(str(output / "x.jpg"))
    zoom = zoom_for(image)
    assert picture.shape == (image.shape[0] * zoom, image.shape[1] * zoom, 3)
    plain = image.repeat(zoom, axis=0).repeat(zoom, axis=1)[..., ::-1]
    assert results[0]
    assert (np.abs(picture.astype(int) - plain).max(axis=2) > 60).mean() > 0.01


def test_bad_files_among_good_ones(trained, tmp_path):
    folder = tmp_path / "in"
    whole = jpeg(folder / "b.jpg").read_bytes()
    (folder / "a.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "c.jpg").write_text("no image")
    os.mkfifo(folder / "d.jpg")
    images, bad = find_images([str(folder)]), []
    model = load_detector(trained)
    found = predict_images(model, images, tmp_path / "out", min_score=0.01, on_bad=bad.append)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"b.jpg", "detections.json"}
    assert {detection["image_id"] for detection in found} == {2}
    for error, (name, message) in zip(
        bad,
        {"a.jpg": "cut off", "c.jpg": "not an image", "d.jpg": "pipe or device"}.items(),
        strict=True,
    ):
        assert str(error).startswith(str(folder / name))
        assert message in str(error)
    with pytest.raises(UserError, match=r"a.jpg: the image is cut off"):
        predict_images(model, images, tmp_path / "out")


def test_the_score_of_what_is_drawn(trained, tmp_path):
    model, file = load_detector(trained), jpeg(tmp_path / "x.jpg")
    found = predict_images(
        model, find_images([str(file)]), tmp_path / "out", score=1.0, min_score=0.01
    )
    assert found
    image = find_images([str(file)])[0].read()
    plain = image.repeat(zoom_for(image), axis=0).repeat(zoom_for(image), axis=1)[..., ::-1]
    picture = cv2.imread(str(tmp_path / "out" / "x.jpg")).astype(int)
    assert np.abs(picture - plain).mean() < 5  # nothing but the loss of JPEG


def test_an_image_is_never_overwritten(trained, tmp_path):
    file = jpeg(tmp_path / "x.jpg")
    before = file.read_bytes()
    with pytest.raises(UserError, match=r"x\.jpg is one of the images and would be overwritten"):
        predict_images(load_detector(trained), find_images([str(file)]), tmp_path)
    assert file.read_bytes() == before


def run(*words):
    return subprocess.run(
        [sys.executable, "-m", "bifpn_jax", "predict", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        capture_output=True,
        text=True,
    )


def test_the_command(trained, tmp_path):
    jpeg(tmp_path / "in" / "a.jpg", 0)
    jpeg(tmp_path / "in" / "b.jpg", 1)
    result = run(
        "--model=d0",
        f"--weights={trained}",
        f"--output={tmp_path / 'out'}",
        "--min_score=0.01",
        "--nms=hard",
        tmp_path / "in",
    )
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith(f"weights: {trained} (step ")
    assert lines[1].startswith(f"{tmp_path / 'in' / 'a.jpg'}: ")
    assert lines[3].startswith("2 images in ")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "a.jpg",
        "b.jpg",
        "detections.json",
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no image is given; name files, folders or globs, or set --eval_images=12."),
        (("absent.jpg",), "absent.jpg: no such image or folder; correct the path."),
        (("--score=2", "."), "--score=2: give a number from 0 to 1"),
        (("--step=x", "--eval_images=1"), "--step=x: give best, latest or the number of a step."),
        (("--image_hw=64x", "--eval_images=1"), "--image_hw=64x: give height and width, such as"),
        (("--model=d1", "--eval_images=1"), "use --model=d0, or leave it out."),
    ],
)
def test_a_mistake_is_one_line(trained, tmp_path, words, message):
    ended = run_command("predict", f"--weights={trained}", f"--output={tmp_path}", *words)
    assert_refused(ended, re.escape(message))
    assert ended.out == ""
