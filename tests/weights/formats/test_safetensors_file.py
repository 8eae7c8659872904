"""`.safetensors`: exact round trips, bfloat16, and damaged files in one line."""

import json
import struct
import sys

import ml_dtypes
import numpy as np
import pytest

from bifpn_jax.errors import UserError
from bifpn_jax.weights.formats.safetensors_file import read_safetensors, write_safetensors

pytest.importorskip("safetensors", reason="the package safetensors is not installed")


def write_raw(path, header, data=b""):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def float32(*shape, at=(0, 8)):
    return {"dtype": "F32", "shape": list(shape), "data_offsets": list(at)}


def test_round_trip_is_exact(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "params/stem/kernel": rng.standard_normal((3, 3, 2, 4)).astype(np.float32),
        "transposed": rng.standard_normal((3, 5)).astype(np.float32).T,
        "every other": np.arange(10, dtype=np.int32)[::2],
        "scalar": np.array(7, np.int64),
        "half": np.array([1.5, np.inf], np.float16),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 3), np.float64),
    }
    metadata = {"format": "bifpn_jax", "config": '{"name": "d0"}', "names": "cat, Hündin"}
    write_safetensors(tmp_path / "model.safetensors", arrays, metadata)
    back, told = read_safetensors(str(tmp_path / "model.safetensors"))
    assert told == metadata
    assert set(back) == set(arrays)
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array, strict=True)


def test_bfloat16_becomes_float32(tmp_path):
    values = np.array([1.0, -0.15625, 3.0e38, np.inf], ml_dtypes.bfloat16)
    header = {"x": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}
    write_raw(tmp_path / "x.safetensors", header, values.tobytes())
    arrays, metadata = read_safetensors(tmp_path / "x.safetensors")
    np.testing.assert_array_equal(arrays["x"], values.astype(np.float32), strict=True)
    assert metadata == {}


def test_an_existing_file_is_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "model.safetensors"
    for value in (1.0, 2.0):
        write_safetensors(path, {"x": np.full(3, value)}, {})
    assert read_safetensors(path)[0]["x"][0] == 2
    assert list(tmp_path.iterdir()) == [path]


def test_others_may_read_what_they_may_read_of_any_file(tmp_path):
    (tmp_path / "any").touch()
    write_safetensors(tmp_path / "a.safetensors", {"x": np.ones(3)}, {})
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"x": np.ones(3)}, {})
    with pytest.raises(UserError, match=r"cannot be written") as caught:
        write_safetensors(path, {"x": np.array(["text"])}, {})
    assert "\n" not in str(caught.value)
    assert read_safetensors(path)[0]["x"].sum() == 3
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UserError, match=r"cannot be written"):
        write_safetensors(tmp_path / "absent" / "model.safetensors", {"x": np.ones(3)}, {})


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"x": float32(2)}, b"\0" * 4),
        ({"x": float32(2)}, b"\0" * 12),
        ({"x": float32(3)}, b"\0" * 8),
        ({"x": float32(-2)}, b"\0" * 8),
        ({"x": float32(1 << 62, 4)}, b"\0" * 8),
        ({"x": float32(2), "y": float32(2)}, b"\0" * 8),
        ({"x": float32(2, at=(8, 0))}, b"\0" * 8),
        ({"x": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}}, b"\0" * 8),
        ({"x": {"dtype": "object", "shape": [1], "data_offsets": [0, 8]}}, b"\0" * 8),
        ({"x": 1}, b""),
        (b"{", b""),
        (b"\xff\xfe", b""),
        (b"[" * 100_000, b""),
    ],
)
def test_damaged_headers_are_refused_in_one_line(tmp_path, header, data):
    path = tmp_path / "bad.safetensors"
    write_raw(path, header, data)
    with pytest.raises(UserError) as caught:
        read_safetensors(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 7, struct.pack("<Q", 1 << 40) + b"{}", b"PK\x03\x04" + b"\0" * 40, b"<html>"],
)
def test_other_files_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_safetensors(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file_and_folders(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_safetensors(tmp_path / "absent.safetensors")
    with pytest.raises(UserError, match="is not a file"):
        read_safetensors(tmp_path)


def test_a_missing_package_is_named_with_its_cure(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for call in (
        lambda: read_safetensors(tmp_path / "x.safetensors"),
        lambda: write_safetensors(tmp_path / "x.safetensors", {}, {}),
    ):
        with pytest.raises(UserError, match="pip install safetensors"):
            call()
