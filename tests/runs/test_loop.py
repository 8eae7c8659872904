"""Training runs from their start: what they leave, how they are interrupted and go on."""

import itertools
import json
import os
import signal
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from tiny_run import checkpoint_steps

from bifpn_jax.data.sources.shapes import DrawnShapes
from bifpn_jax.errors import UserError
from bifpn_jax.recipe import building
from bifpn_jax.runs import loop
from bifpn_jax.runs.logs import MetricWriter
from bifpn_jax.runs.starting_weights import initial_variables
from bifpn_jax.runs.workdir_lock import lock_workdir
from bifpn_jax.train.checkpoint_reader import read_json, read_weights, restore_meta

MEASURED = ("train/seconds", "train/images_per_second")  # different every time


def read_lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def results_of(workdir):
    """Everything that a run logged but the clock."""
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in read_lines(workdir)]


def arrays(workdir, step):
    """All arrays of a checkpoint by name."""
    with ocp.PyTreeCheckpointer() as reader:
        path = workdir / "checkpoints" / "latest" / str(step) / "state"
        tree = reader.metadata(path).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        restored = reader.restore(path, restore_args=as_numpy)
    return {
        jax.tree_util.keystr(name): array
        for name, array in jax.tree_util.tree_leaves_with_path(restored)
    }


def stop_at(monkeypatch, step):
    """SIGTERM arrives while the results of this step are logged."""
    write = MetricWriter.write

    def write_and_stop(self, logged, values):
        write(self, logged, values)
        if logged == step:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(MetricWriter, "write", write_and_stop)


def test_what_a_run_leaves(trained):
    assert {path.name for path in trained.iterdir()} == {
        "checkpoints",
        "config.json",
        "detections.json",
        "finished.json",
        "fusion_weights.jsonl",
        "metrics.json",
        "metrics.jsonl",
        "parameters.txt",
        "tensorboard",
    }
    config = json.loads((trained / "config.json").read_text())
    assert config["model"]["backbone"] == "nano"
    assert config == restore_meta(trained, "latest")["config"]
    assert (
        restore_meta(trained)["label_map"]["names"] == DrawnShapes(1).label_map.to_json()["names"]
    )
    logged = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    weights = [
        json.loads(line) for line in (trained / "fusion_weights.jsonl").read_text().splitlines()
    ]
    assert [w["step"] for w in weights] == [m["step"] for m in logged if "train/loss" in m]
    assert "cell_0/node_0" in weights[-1]["weights"]
    finished = json.loads((trained / "finished.json").read_text())
    assert finished["step"] == weights[-1]["step"]
    assert finished["seconds"] > 0
    overview = (trained / "parameters.txt").read_text()
    assert "backbone/stem_conv/kernel" in overview
    assert "Total:" in overview
    assert list((trained / "tensorboard").iterdir())
    assert checkpoint_steps(trained, "latest") == [20, 24]
    assert len(checkpoint_steps(trained, "best")) == 1


def test_every_logged_step_is_a_line(trained):
    lines = read_lines(trained)
    training = [line for line in lines if "train/loss" in line]
    assert [line["step"] for line in training] == list(range(2, 25, 2))
    for line in training:
        assert line["train/loss"] == pytest.approx(
            line["train/class_loss"] + 50 * line["train/box_loss"], rel=1e-4
        )
        assert line["train/epoch"] == pytest.approx(line["step"] * 8 / 20)
    # The clock of the speed starts after the first step.
    assert all(line["train/images_per_second"] > 0 for line in training)
    assert [line["step"] for line in lines if "eval/AP" in line] == [12, 24]


def test_the_loss_falls(trained):
    losses = [line["train/loss"] for line in read_lines(trained) if "train/loss" in line]
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    assert max(losses[-3:]) < min(losses[:3])


def test_every_image_is_evaluated_once(trained):
    # 11 images in batches of 8.
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["num_images"] == 11
    assert metrics["step"] == 24
    assert set(metrics["per_class"]) == set(DrawnShapes(1).label_map.names)
    detections = json.loads((trained / "detections.json").read_text())
    assert len(detections) == metrics["num_detections"]
    assert {detection["image_id"] for detection in detections} == set(range(1, 12))
    last = [line for line in read_lines(trained) if "eval/AP" in line][-1]
    assert last["eval/AP"] == metrics["AP"]
    assert last["eval/num_images"] == 11


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    trained, tiny_config, run_training, tmp_path, monkeypatch
):
    # Step 6 is logged, 7 is neither logged nor saved by itself.
    with monkeypatch.context() as patch:
        stop_at(patch, 6)
        with pytest.raises(loop.Interrupted) as interrupted:
            run_training(tiny_config(), tmp_path)
    assert interrupted.value.args[0] == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert checkpoint_steps(tmp_path, "latest") == [5, 7]
    assert [line["step"] for line in results_of(tmp_path)] == [2, 4, 6]
    assert not (tmp_path / "metrics.json").exists()

    # And once more after an evaluation: what that one found does not make the run complete.
    with monkeypatch.context() as patch:
        stop_at(patch, 14)
        with pytest.raises(loop.Interrupted):
            run_training(tiny_config(), tmp_path)
    assert checkpoint_steps(tmp_path, "latest") == [12, 15]

    metrics = run_training(tiny_config(), tmp_path)
    assert results_of(tmp_path) == results_of(trained)
    assert metrics | {"step": 24} == json.loads((trained / "metrics.json").read_text())
    for file in ("metrics.json", "detections.json", "config.json", "parameters.txt"):
        assert (tmp_path / file).read_bytes() == (trained / file).read_bytes()
    last = "checkpoints/latest/24"
    assert read_json(tmp_path / last, "iterator") == read_json(trained / last, "iterator")
    ours, expected = arrays(tmp_path, 24), arrays(trained, 24)
    assert ours.keys() == expected.keys()
    assert len(ours) > 900
    for name in expected:
        assert ours[name].tobytes() == expected[name].tobytes(), name


def test_a_new_run_takes_all_weights_of_a_workdir(trained, tiny_config):
    """The averaged ones of its best checkpoint."""
    config = tiny_config()
    config.init_from = str(trained)
    label_map = DrawnShapes(1).label_map
    model = building.model(config, label_map)
    said = []
    variables = initial_variables(config, model, None, say=said.append)
    expected = read_weights(trained, "best", ema=True)
    assert jax.tree.structure(variables) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
    assert len(jax.tree.leaves(variables)) > 100
    raw = read_weights(trained, "best", ema=False)
    differ = jax.tree.map(lambda a, b: not np.array_equal(a, b), expected, raw)
    assert any(jax.tree.leaves(differ))
    assert said


def test_ctrl_c_while_the_first_step_compiles(tiny_config, run_training, tmp_path, capsys):
    """Nothing is saved, nothing is lost, and the workdir is free again."""

    def slow(step_fn):
        def step(state, batch):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(3)
            return step_fn(state, batch)

        return step

    began = time.monotonic()
    with pytest.raises(loop.Interrupted) as interrupted:
        run_training(tiny_config(), tmp_path, slow)
    assert time.monotonic() - began < 120
    assert interrupted.value.args == (signal.SIGINT,)
    assert "SIGINT: stopped before a step was made; nothing is lost" in capsys.readouterr().err
    assert not (tmp_path / "lock").exists()
    assert checkpoint_steps(tmp_path, "latest") == []


def test_sigterm_while_the_evaluation_compiles_saves_the_step(
    tiny_config, run_training, tmp_path, monkeypatch
):
    original = building.predict_fn

    def slow(config, model):
        predict = original(config, model)

        def call(variables, batch):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(3)
            return predict(variables, batch)

        return call

    monkeypatch.setattr(building, "predict_fn", slow)
    with pytest.raises(loop.Interrupted) as interrupted:
        run_training(tiny_config(), tmp_path)
    assert interrupted.value.args == (signal.SIGTERM, 12)
    assert checkpoint_steps(tmp_path, "latest") == [10, 12]
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize(
    ("group", "field", "value", "was"),
    [("model", "width", 24, 16), ("optimizer", "weight_decay", 0.5, 4e-5), ("", "seed", 1, 0)],
)
def test_a_run_goes_on_with_its_own_config_only(
    trained, tiny_config, run_training, group, field, value, was
):
    config = tiny_config()
    (config[group] if group else config)[field] = value
    name = f"{group}.{field}" if group else field
    with pytest.raises(UserError) as error:
        run_training(config, trained)
    message = str(error.value)
    assert f"{name}={value!r} (it was {was!r})" in message
    assert str(trained) in message
    assert "\n" not in message


def test_a_second_run_in_the_same_workdir_is_refused(tiny_config, run_training, tmp_path):
    with lock_workdir(tmp_path), pytest.raises(UserError, match="is training here") as error:
        run_training(tiny_config(), tmp_path)
    assert f"{tmp_path}: process {os.getpid()} on " in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_batch_that_the_devices_cannot_share(tiny_config, run_training, tmp_path):
    config = tiny_config()
    config.train.batch_size = 12
    with pytest.raises(UserError, match="batch size 12 cannot be split over 8 devices"):
        run_training(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_the_run(tiny_config, run_training, tmp_path):
    """The weights blow up before step 8; the last checkpoint is of step 5."""
    steps = itertools.count(1)

    def blow_up(train_step):
        def step(state, batch):
            if next(steps) == 8:
                state = state.replace(params=jax.tree.map(lambda x: 1e30 * x, state.params))
            return train_step(state, batch)

        return step

    with pytest.raises(UserError, match=r"step 8: loss (nan|inf)") as error:
        run_training(tiny_config(), tmp_path, blow_up)
    message = str(error.value)
    assert "\n" not in message
    assert "learning rate 0.00" in message
    ids = message.partition("with ids ")[2].partition(". ")[0].split(", ")
    assert len(ids) == 8
    assert set(map(int, ids)) <= set(range(1, 21))
    assert checkpoint_steps(tmp_path, "latest") == [5]
    for name, array in arrays(tmp_path, 5).items():
        assert np.isfinite(array).all(), name
    assert [line["step"] for line in read_lines(tmp_path)] == [2, 4, 6]


def on_coco_files(config, train, evaluation):
    config.data.update(
        {
            "source": "coco_json",
            "train_images": str(train.images),
            "train_annotations": str(train.annotations),
            "eval_images": str(evaluation.images),
            "eval_annotations": str(evaluation.annotations),
        }
    )
    return config


def test_files_with_category_ids_of_their_own(
    tiny_config, run_training, coco_shapes, trained, tmp_path
):
    ids = (3, 7, 40, 90)
    metrics = run_training(on_coco_files(tiny_config(), *coco_shapes(ids)), tmp_path)
    assert restore_meta(tmp_path)["label_map"]["category_ids"] == list(ids)
    found = json.loads((tmp_path / "detections.json").read_text())
    assert found
    assert {detection["category_id"] for detection in found} <= set(ids)
    assert list(metrics["per_class"]) == ["circle", "rectangle", "triangle", "cross"]
    # The same images under other ids and from other files; boxes differ in the last digit.
    ours, expected = (
        [line["train/loss"] for line in results_of(run) if "train/loss" in line]
        for run in (tmp_path, trained)
    )
    assert ours == pytest.approx(expected, rel=0.02)


def test_outputs_that_are_category_ids(tiny_config, run_training, coco_shapes, tmp_path):
    config = on_coco_files(tiny_config(), *coco_shapes((1, 2, 4)))
    config.data.label_space = "category_id"
    metrics = run_training(config, tmp_path)
    label_map = restore_meta(tmp_path)["label_map"]
    assert label_map["category_ids"] == [1, 2, 3, 4]
    assert label_map["names"] == ["circle", "rectangle", "unused-3", "triangle"]
    assert list(metrics["per_class"]) == ["circle", "rectangle", "triangle"]
    found = json.loads((tmp_path / "detections.json").read_text())
    assert {detection["category_id"] for detection in found} & {2, 4}


def test_data_that_is_wrong_is_found_before_anything_is_written(
    tiny_config, run_training, coco_shapes, tmp_path
):
    train_files, evaluation = coco_shapes()
    content = json.loads(evaluation.annotations.read_text())
    content["categories"][0]["name"] = "disc"
    evaluation.annotations.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"'disc' \(id 1, which .*train\.json calls 'circle'\)"):
        run_training(on_coco_files(tiny_config(), train_files, evaluation), tmp_path / "run")
    assert not (tmp_path / "run").exists()
