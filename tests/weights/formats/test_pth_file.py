"""PyTorch files without PyTorch: exact tensors from both containers, damaged ones refused."""

import io
import os
import pickle
import struct
import sys
import tracemalloc
import types
import zipfile
from collections import OrderedDict

import ml_dtypes
import numpy as np
import pytest
from torch_files import MAGIC, Operations, legacy_file, pickled, refusal, write_pth, zip_file

from bifpn_jax.errors import UserError
from bifpn_jax.weights.formats.pth_file import read_pth

BOTH = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


def weights():
    rng = np.random.default_rng(0)
    base = rng.standard_normal(60).astype(np.float32)
    return {
        "conv.weight": rng.standard_normal((4, 3, 5, 5)).astype(np.float32),
        # Stored in another order of axes, as converted kernels are.
        "conv.permuted": rng.standard_normal((5, 5, 3, 4)).astype(np.float32).transpose(3, 2, 0, 1),
        "fortran": np.asfortranarray(rng.standard_normal((3, 4))),
        "shared.whole": base,
        "shared.part": base[4:40].reshape(6, 6).T[::2],
        "shared.odd": base[1::2],
        "bn.num_batches_tracked": np.array(12345678901),
        "half": rng.standard_normal(7).astype(np.float16),
        "flags": np.array([True, False, True]),
        "bytes": np.arange(5, dtype=np.uint8),
        "signed": np.arange(-3, 3, dtype=np.int8),
        "short": np.arange(-3, 3, dtype=np.int16),
        "int": np.arange(-3, 3, dtype=np.int32),
        "one": np.ones((1, 1, 3), np.float32),
        "empty": np.zeros((0, 3), np.float32),
    }


@BOTH
def test_every_tensor_is_read_exactly(tmp_path, legacy):
    expected = weights()
    arrays = read_pth(write_pth(tmp_path / "x.pth", expected, legacy=legacy))
    assert list(arrays) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, strict=True, err_msg=name)
    assert np.shares_memory(arrays["shared.whole"], arrays["shared.part"])


@BOTH
def test_bfloat16_becomes_float32(tmp_path, legacy):
    values = np.array([[1.0, -0.15625, 3.0e38], [np.inf, 0, -1e-40]], ml_dtypes.bfloat16)
    arrays = read_pth(write_pth(tmp_path / "x.pth", {"x": values.T}, legacy=legacy))
    np.testing.assert_array_equal(arrays["x"], values.T.astype(np.float32), strict=True)


def test_big_endian_files_and_those_without_a_byte_order(tmp_path):
    path = tmp_path / "x.pth"
    values = {"f": np.arange(5, dtype=np.float32), "b": np.ones(3, ml_dtypes.bfloat16)}
    for order in ("big", None):
        path.write_bytes(zip_file(*pickled(values), byte_order=order))
        arrays = read_pth(path)
        np.testing.assert_array_equal(arrays["f"], values["f"], strict=True)
        np.testing.assert_array_equal(arrays["b"], np.ones(3, np.float32), strict=True)
    path.write_bytes(zip_file(*pickled(values), byte_order="middle"))
    assert "byte order" in refusal(path)


@BOTH
@pytest.mark.parametrize("protocol", [2, 4])
def test_memo_and_frames_of_the_standard_pickler_are_understood(
    tmp_path, monkeypatch, legacy, protocol
):
    """A state dict by Python's own pickler, as torch.save uses it, over a stand-in for torch."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    utils._rebuild_tensor_v2 = type("_rebuild_tensor_v2", (), {"__module__": "torch._utils"})

    class Tensor:
        def __init__(self, *arguments):
            self.arguments = arguments

        def __reduce__(self):
            return utils._rebuild_tensor_v2, self.arguments

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, torch.FloatStorage):
                return "storage", torch.FloatStorage, "7", "cpu", 6, *([None] if legacy else [])
            return None

    storage = torch.FloatStorage()
    state = OrderedDict(
        x=Tensor(storage, 0, (2, 3), (3, 1), False, OrderedDict()),
        y=Tensor(storage, 4, (2,), (1,), False, OrderedDict()),
    )
    state._metadata = OrderedDict({"": {"version": 1}})
    file = io.BytesIO()
    Pickler(file, protocol).dump(state)
    values = np.arange(6, dtype=np.float32)
    path = tmp_path / "x.pth"
    path.write_bytes((legacy_file if legacy else zip_file)(file.getvalue(), {"7": values}))
    arrays = read_pth(path)
    assert list(arrays) == ["x", "y"]
    np.testing.assert_array_equal(arrays["x"], values.reshape(2, 3))
    np.testing.assert_array_equal(arrays["y"], values[4:])


@BOTH
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda ema, raw: raw,
        lambda ema, raw: {"epoch": 3, "arch": "d0", "state_dict": raw, "metric": 0.5},
        lambda ema, raw: {
            "model": raw,
            "optimizer": {"state": {0: {"m": np.ones(9)}}, "g": [(1,)]},
        },
        lambda ema, raw: {"state_dict": ema, "state_dict_ema": raw},
        lambda ema, raw: {"state_dict": raw, "state_dict_ema": None},
        lambda ema, raw: {f"module.{name}": value for name, value in raw.items()},
    ],
)
def test_state_dicts_in_checkpoints_and_of_parallel_training(tmp_path, legacy, wrapped):
    raw = {"a.weight": np.arange(3.0), "b": np.ones((), np.int64)}
    other = {"a.weight": np.zeros(3), "b": np.zeros((), np.int64)}
    arrays = read_pth(write_pth(tmp_path / "x.pth", wrapped(other, raw), legacy=legacy))
    assert set(arrays) == set(raw)
    np.testing.assert_array_equal(arrays["a.weight"], raw["a.weight"])


def test_parameters_are_tensors(tmp_path):
    tensor = Operations(pickled(np.arange(3.0))[0][2:-1])
    parameter = Operations(b"ctorch._utils\n_rebuild_parameter\n(" + tensor + b"\x88" + b"NtR")
    operations, _ = pickled({"p": parameter})
    (tmp_path / "x.pth").write_bytes(zip_file(operations, {"0": np.arange(3.0)}))
    np.testing.assert_array_equal(read_pth(tmp_path / "x.pth")["p"], np.arange(3.0))


@BOTH
def test_truncated_anywhere_is_refused(tmp_path, legacy):
    path = write_pth(tmp_path / "x.pth", weights(), legacy=legacy)
    whole = path.read_bytes()
    points = np.unique(np.linspace(0, len(whole) - 1, 150, dtype=int))
    for end in [*range(40), *points[points >= 40]]:
        path.write_bytes(whole[:end])
        refusal(path)


@BOTH
def test_changed_bytes_are_refused_or_read_without_another_error(tmp_path, legacy):
    path = write_pth(tmp_path / "x.pth", {"x": np.ones(3), "y": np.ones((2, 2))}, legacy=legacy)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    messages = []
    for _ in range(600):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            data[at] = rng.integers(256)
        path.write_bytes(data)
        try:
            read_pth(path)
        except UserError as error:
            messages.append(str(error))
    assert len(messages) > 200
    assert all(map(str.isprintable, messages))


def members(**changes):
    operations, storages = pickled({"x": np.ones(3)})
    parts = {
        "a/data.pkl": operations,
        "a/byteorder": b"little",
        "a/data/0": storages["0"].tobytes(),
    }
    return parts | {name.replace("__", "/").replace("_", "."): v for name, v in changes.items()}


def zipped(parts, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in parts:
            archive.writestr(name, data)
    return file.getvalue()


def test_the_zip_file_of_the_table_is_itself_fine(tmp_path):
    (tmp_path / "x.pth").write_bytes(zipped(members().items()))
    np.testing.assert_array_equal(read_pth(tmp_path / "x.pth")["x"], np.ones(3))


def altered(data, at, kind, value):
    """A zip file with another number in all central directory entries; `at` is the offset."""
    data, start = bytearray(data), 0
    while (start := data.find(b"PK\x01\x02", start)) >= 0:
        struct.pack_into(kind, data, start + at, value)
        start += 4
    return bytes(data)


STORED = zipped(members().items())
ZIPS = {
    "no pickle": zipped([("a/data/0", b"x")]),
    "no member": zipped([]),
    "pickle at the root": zipped([("data.pkl", members()["a/data.pkl"])]),
    "two pickles": zipped([*members().items(), ("b/data.pkl", b"")]),
    "compressed": zipped(members().items(), zipfile.ZIP_DEFLATED),
    "bzip2": zipped(members().items(), zipfile.ZIP_BZIP2),
    "bomb": zipped([*members().items(), ("a/x", bytes(100_000_000))], zipfile.ZIP_DEFLATED),
    "storage too short": zipped(members(a__data__0=b"x" * 23).items()),
    "storage too long": zipped(members(a__data__0=b"x" * 25).items()),
    "long byte order": zipped(members(a__byteorder=b"x" * 1_000_000).items()),
    "wrong checksum": altered(STORED, 16, "<I", 12345),
    "encrypted": altered(STORED, 8, "<H", 1),
    "strongly encrypted": altered(STORED, 8, "<H", 64),
    "future version": altered(STORED, 6, "<H", 99),
    "unknown compression": altered(STORED, 10, "<H", 97),
    "huge sizes": altered(altered(STORED, 20, "<I", 1 << 31), 24, "<I", 1 << 31),
    "huge real size": altered(STORED, 24, "<I", 1 << 31),
    "offset behind the end": altered(STORED, 42, "<I", 1 << 31),
    "all at one place": altered(STORED, 42, "<I", 0),
    "zip64 marks without values": altered(STORED, 24, "<I", 0xFFFFFFFF),
    "directory behind the end": STORED[:-6] + struct.pack("<IH", 1 << 31, 0),
    "huge directory": STORED[:-10] + struct.pack("<IIH", 1 << 31, 0, 0),
}


@pytest.mark.parametrize("name", ZIPS)
def test_hostile_zip_files_are_refused_in_little_memory(tmp_path, name):
    path = tmp_path / "x.pth"
    path.write_bytes(ZIPS[name])
    tracemalloc.start()
    try:
        refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(zipped([*members().items(), ("a/data/0", bytes(24))]))
    assert "same name" in refusal(path)


def test_a_huge_directory_is_not_read(tmp_path):
    """A sparse file, all of which its end declares to be the directory."""
    path, size = tmp_path / "x.pth", 300_000_000
    with path.open("wb") as file:
        file.write(b"PK\x03\x04")
        file.seek(size)
        file.write(struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, size, 0, 0))
    tracemalloc.start()
    try:
        assert "directory" in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


LEGACY = pickled({"x": np.ones(3)})[0]


@pytest.mark.parametrize(
    "tail",
    [
        pickle.dumps([], 2),
        pickle.dumps(["1"], 2) + struct.pack("<q", 3) + bytes(24),
        pickle.dumps([0], 2) + struct.pack("<q", 3) + bytes(24),
        pickle.dumps("0", 2) + struct.pack("<q", 3) + bytes(24),
        pickle.dumps([["0"]], 2) + struct.pack("<q", 3) + bytes(24),
        pickle.dumps(["0", "0"], 2) + (struct.pack("<q", 3) + bytes(24)) * 2,
        pickle.dumps(["0"], 2) + struct.pack("<q", 4) + bytes(32),
        pickle.dumps(["0"], 2) + struct.pack("<q", -3) + bytes(24),
        pickle.dumps(["0"], 2) + struct.pack("<q", 1 << 62) + bytes(24),
        pickle.dumps(["0"], 2) + struct.pack("<q", 3) + bytes(23),
    ],
)
def test_legacy_values_that_do_not_fit_are_refused(tmp_path, tail):
    path = tmp_path / "x.pth"
    head = b"".join(pickle.dumps(value, 2) for value in (MAGIC, 1001, {}))
    path.write_bytes(head + LEGACY + tail)
    refusal(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "begins with b''"),
        (b"<!DOCTYPE html>", "begins with b'<!DO'"),
        (b"version https://git-lfs", "begins with b'vers'"),
        (b"\x89HDF\r\n\x1a\n", "begins with"),
        (b"\x80\x02K\x01.", "not from torch.save"),
        (pickle.dumps(MAGIC, 2) + pickle.dumps(1002, 2), "not from torch.save"),
        (pickle.dumps({"x": np.ones(3)}, 2), "numpy"),
    ],
)
def test_other_files_are_refused(tmp_path, content, told):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    assert told in refusal(path)


def test_no_file_folders_and_pipes(tmp_path):
    assert "does not exist" in refusal(tmp_path / "absent.pth")
    assert "is not a file" in refusal(tmp_path)
    os.mkfifo(tmp_path / "pipe.pth")
    assert "is not a file" in refusal(tmp_path / "pipe.pth")
