import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from bifpn_jax.runs.logs import (
    MetricWriter,
    write_config,
    write_finished,
    write_parameter_overview,
)


def read_lines(workdir):
    def reject(token):
        raise AssertionError(f"{token} is not JSON")

    lines = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line, parse_constant=reject) for line in lines]


def test_one_json_line_per_step_readable_at_once(tmp_path):
    with MetricWriter(tmp_path / "run") as writer:
        writer.write(1, {"train/loss": jnp.float32(1.5), "count": np.int64(3)})
        assert read_lines(tmp_path / "run") == [{"step": 1, "train/loss": 1.5, "count": 3}]
        writer.write(np.int64(2), {"train/loss": 0.25, "learning_rate": np.float32(0.5)})
    assert read_lines(tmp_path / "run")[1] == {"step": 2, "train/loss": 0.25, "learning_rate": 0.5}


def test_float32_values_come_back_bit_exact(tmp_path):
    values = np.random.default_rng(0).standard_normal(50).astype(np.float32)
    with MetricWriter(tmp_path) as writer:
        for step, value in enumerate(values):
            writer.write(step, {"loss": jnp.asarray(value)})
    assert [np.float32(line["loss"]) for line in read_lines(tmp_path)] == values.tolist()


def test_non_finite_values_are_null(tmp_path):
    with MetricWriter(tmp_path) as writer:
        writer.write(0, {"a": math.nan, "b": jnp.float32(jnp.inf), "c": -np.inf, "d": 1.0})
    assert read_lines(tmp_path) == [{"step": 0, "a": None, "b": None, "c": None, "d": 1.0}]


def test_a_resumed_run_appends_and_drops_a_half_written_line(tmp_path):
    with MetricWriter(tmp_path) as writer:
        writer.write(1, {"loss": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    with MetricWriter(tmp_path, first_step=1) as writer:
        writer.write(2, {"loss": 0.5})
    assert read_lines(tmp_path) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}]


def test_fusion_weights_have_a_file_of_their_own(tmp_path):
    path = tmp_path / "fusion_weights.jsonl"
    with MetricWriter(tmp_path) as writer:
        writer.write_fusion_weights(1, {})
        assert not path.exists()
        writer.write_fusion_weights(5, {"cell_0/node_3": [0.25, 0.75]})
    with path.open("a") as file:
        file.write('{"step": 10, "wei')
    with MetricWriter(tmp_path, first_step=5) as writer:
        writer.write_fusion_weights(10, {"cell_0/node_3": [1 / 3, 2 / 3]})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 5, "weights": {"cell_0/node_3": [0.25, 0.75]}},
        {"step": 10, "weights": {"cell_0/node_3": [0.333333, 0.666667]}},
    ]
    with MetricWriter(tmp_path / "other", enabled=False) as writer:
        writer.write_fusion_weights(1, {"cell_0/node_3": [1.0]})
    assert not (tmp_path / "other").exists()


def test_a_finished_run_is_marked(tmp_path):
    path = write_finished(tmp_path / "run", step=np.int64(40), seconds=12.34567)
    assert path == tmp_path / "run" / "finished.json"
    assert json.loads(path.read_text()) == {"step": 40, "seconds": 12.346}


def test_tensorboard_has_the_same_numbers(tmp_path):
    with MetricWriter(tmp_path) as writer:
        writer.write(7, {"train/loss": 1.5, "bad": math.nan})
    (path,) = (tmp_path / "tensorboard").iterdir()
    content, scalars, offset = path.read_bytes(), [], 0
    while offset < len(content):  # Records: length (8 bytes), its checksum (4), data, checksum (4).
        length = int.from_bytes(content[offset : offset + 8], "little")
        event = Event.FromString(content[offset + 12 : offset + 12 + length])
        scalars += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        offset += length + 16
    assert scalars == [(7, "train/loss", 1.5)]


def test_a_disabled_writer_writes_nothing(tmp_path):
    with MetricWriter(tmp_path / "run", enabled=False) as writer:
        writer.write(1, {"loss": 1.0})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", [np.ones(2), "0.5", None])
def test_what_is_not_one_number_is_named(tmp_path, value):
    with MetricWriter(tmp_path) as writer, pytest.raises(TypeError, match="train/loss"):
        writer.write(1, {"train/loss": value})


def test_config_is_written_whole_and_replaced(tmp_path):
    config = {"model": {"name": "d0", "levels": (3, 7)}, "names": ["zebra é"], "freeze": None}
    write_config(tmp_path / "run", {"old": 1})
    path = write_config(tmp_path / "run", config)
    assert path == tmp_path / "run" / "config.json"
    assert json.loads(path.read_text(encoding="utf-8")) == json.loads(json.dumps(config))
    assert [file.name for file in path.parent.iterdir()] == ["config.json"]


def test_a_config_that_is_not_json_leaves_the_old_one(tmp_path):
    path = write_config(tmp_path, {"a": 1})
    with pytest.raises(TypeError):
        write_config(tmp_path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_parameter_overview_lists_names_shapes_and_the_total(tmp_path):
    shapes = jax.eval_shape(
        lambda: {"stem": {"kernel": jnp.zeros((3, 3, 3, 32)), "bias": jnp.zeros(32)}}
    )
    overview = write_parameter_overview(tmp_path / "run", shapes)
    assert "stem/kernel" in overview
    assert "(3, 3, 3, 32)" in overview
    assert "896" in overview
    assert (tmp_path / "run" / "parameters.txt").read_text() == overview + "\n"
