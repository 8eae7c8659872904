"""A run that goes on without bad images, and says which."""

import json

import pytest

from bifpn_jax.command_line.trained_model import run_config
from bifpn_jax.commands.evaluate import open_data
from bifpn_jax.errors import UserError
from bifpn_jax.recipe import building
from bifpn_jax.recipe.checks import check_same_run
from bifpn_jax.runs.skipped_images import SKIPPED_FILE
from bifpn_jax.trained import evaluate_detector, load_detector


@pytest.fixture
def files(coco_shapes):
    return coco_shapes()


def config_of(tiny_config, files, **data):
    config = tiny_config()
    training, evaluation = files
    config.data.update(
        {
            "source": "coco_json",
            "train_images": str(training.images),
            "train_annotations": str(training.annotations),
            "eval_images": str(evaluation.images),
            "eval_annotations": str(evaluation.annotations),
            **data,
        }
    )
    return config


def images_of(files):
    """The paths of the images by their ids."""
    entries = json.loads(files.annotations.read_text())["images"]
    return {entry["id"]: files.images / entry["file_name"] for entry in entries}


def spoil(path):
    path.write_bytes(b"no image")


def test_a_run_says_what_it_skipped(
    tiny_config, run_training, files, tmp_path, monkeypatch, capsys
):
    # One image more, so that with 20 good ones the steps are those of the run in `trained`.
    first = 9999
    content = json.loads(files[0].annotations.read_text())
    content["images"].append({"id": first, "file_name": "absent.jpg", "height": 9, "width": 9})
    files[0].annotations.write_text(json.dumps(content))
    training, evaluation = map(images_of, files)
    second = next(iter(training))
    config = config_of(tiny_config, files)
    with pytest.raises(
        UserError, match=r"1 of the 21 images .* missing.*config\.data\.bad_images=skip"
    ):
        run_training(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()

    bad_later = list(evaluation)[3]
    sources = building.sources

    def sources_that_go_bad(config):
        opened = sources(config)
        spoil(training[second])
        spoil(evaluation[bad_later])
        return opened

    config = config_of(tiny_config, files, bad_images="skip")
    config.log.progress = True
    monkeypatch.setattr(building, "sources", sources_that_go_bad)
    run_training(config, tmp_path / "run")
    said = capsys.readouterr()
    last = (said.out + said.err).splitlines()[-2]
    assert last == (
        f"bad images: 1 skipped in the training data (ids {first}); 1 replaced by the next good "
        f"one in training (ids {second}); 1 not evaluated (ids {bad_later}); all are in "
        f"{SKIPPED_FILE}"
    )
    lines = (tmp_path / "run" / SKIPPED_FILE).read_text().splitlines()
    assert [line.split("\t")[:2] for line in lines] == [
        ["train", str(first)],
        ["train", str(second)],
        ["eval", str(bad_later)],
    ]
    assert "there is no image 'absent.jpg'" in lines[0]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["num_images"] == 10


def test_evaluation_of_a_trained_model(trained, files):
    evaluation = images_of(files[1])
    left_out, bad_later = list(evaluation)[1:3]
    detector = load_detector(trained)
    config = run_config(detector)
    paths = str(files[1].images), str(files[1].annotations)
    spoil(evaluation[left_out])
    with pytest.raises(UserError, match=r"or set bad_images=skip to go on"):
        open_data(config, 4, *paths)
    config.data.bad_images = "skip"
    source = open_data(config, 4, *paths)
    assert [image.image_id for image in source.left_out] == [left_out]
    spoil(evaluation[bad_later])
    result = evaluate_detector(detector, source, bad_images="skip")
    assert result.skipped == [bad_later]
    assert result.metrics.num_images == 9
    assert not {left_out, bad_later} & {entry["image_id"] for entry in result.detections}


META = {"config": {}, "label_map": {"category_ids": [1], "names": ["cat"]}}


def test_a_resumed_run_must_leave_the_same_images_out():
    skip = {**META, "config": {"data": {"bad_images": "skip"}}}
    check_same_run(skip, META, "runs/x")
    check_same_run({**skip, "left_out": [3]}, {**skip, "left_out": [3]}, "runs/x")
    with pytest.raises(UserError) as error:
        check_same_run({**skip, "left_out": [3, 4]}, {**skip, "left_out": [3]}, "runs/x")
    assert str(error.value) == (
        "runs/x holds a run that skipped 1 bad images, and now 2 are bad: image 4 was good. Put "
        "the files back as they were to go on with it, or use another workdir."
    )
    with pytest.raises(UserError, match="image 3 was bad"):
        check_same_run(META, {**skip, "left_out": [3]}, "runs/x")


def test_a_resumed_run_must_train_on_the_same_data():
    check_same_run({**META, "train_data": "a"}, {**META, "train_data": "a"}, "runs/x")
    check_same_run({**META, "train_data": "a"}, META, "runs/x")  # of an earlier version
    with pytest.raises(UserError, match=r"^runs/x holds a run on other training data: .* changed"):
        check_same_run({**META, "train_data": "a"}, {**META, "train_data": "b"}, "runs/x")
