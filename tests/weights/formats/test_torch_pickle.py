"""Pickles in PyTorch files are read as data: code is refused by name, absurd tensors in a line."""

import builtins
import functools
import os
import pickle
import tracemalloc

import numpy as np
import pytest
from torch_files import (
    MAGIC,
    ORDERED_DICT,
    Operations,
    legacy_file,
    pickled,
    refusal,
    zip_file,
)

from bifpn_jax.weights.formats import torch_pickle
from bifpn_jax.weights.formats.pth_file import read_pth

BOTH = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


class Call:
    """Calls a function when a real unpickler loads it."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


CODE = {
    "system": Call(os.system, "touch executed"),
    "eval": Call(builtins.eval, "open('executed', 'w')"),
    "exec": Call(builtins.exec, "open('executed', 'w')"),
    "open": Call(builtins.open, "executed", "w"),
    "partial": Call(functools.partial, os.system, "touch executed"),
    "getattr": Call(builtins.getattr, "x", "y"),
}


@BOTH
@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", CODE)
def test_code_is_refused_by_name_and_not_run(tmp_path, monkeypatch, name, protocol, legacy):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pth"
    operations = pickle.dumps(CODE[name], protocol)
    path.write_bytes((legacy_file if legacy else zip_file)(operations, {}))
    assert f".{name}', which no state dict needs; refused" in refusal(path)
    nested = pickle.dumps({"state_dict": {"x": [((CODE[name],),)]}}, protocol)
    path.write_bytes((legacy_file if legacy else zip_file)(nested, {}))
    assert "torch.save(model.state_dict(), path)" in refusal(path)
    assert os.listdir(tmp_path) == ["x.pth"]


def test_code_in_a_bare_pickle_and_in_the_legacy_head(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pth"
    call = pickle.dumps(CODE["system"], 2)
    head = [pickle.dumps(value, 2) for value in (MAGIC, 1001, {})]
    for parts in ([], head[:1], head[:2], head, [*head, pickled({"x": np.ones(3)})[0]]):
        path.write_bytes(b"".join([*parts, call]))
        assert ".system'" in refusal(path)
    assert os.listdir(tmp_path) == ["x.pth"]


def op_tensor(storage=None, offset=0, shape=(3,), strides=(1,), *rest):
    """A tensor with any arguments, over a storage of three float64."""
    storage = Operations(op_storage()) if storage is None else storage
    arguments = (storage, offset, shape, strides, False, Operations(ORDERED_DICT), *rest)
    write = pickled(arguments)[0][2:-1]
    return Operations(b"ctorch._utils\n_rebuild_tensor_v2\n" + write + b"R")


def op_storage(name=b"torch\nDoubleStorage", key="0", count=3, kind="storage", *rest):
    parts = (kind, Operations(b"c" + name + b"\n"), key, "cpu", count, *rest)
    return Operations(pickled(parts)[0][2:-1] + b"Q")


NUMBER = Operations(b"K\x01")
PICKLES = {
    "nothing": b"",
    "no end": b"\x80\x02}",
    "empty stack": b"\x80\x02.",
    "two values": b"\x80\x02}}.",
    "no mark": b"\x80\x02t.",
    "pop below a mark": b"\x80\x02}(K\x01K\x02s.",
    "no memo": b"\x80\x02h\x05.",
    "text as number": b"\x80\x02Ix\n.",
    "unknown operation": b"\x80\x02\xff.",
    "number": b"\x80\x02K\x01.",
    "list": b"\x80\x02].",
    "empty dict": b"\x80\x02}.",
    "dict into itself": b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",
    "state dict of itself": b"\x80\x02}q\x00X\x0a\x00\x00\x00state_dicth\x00s.",
    "fills a number": b"\x80\x02K\x01K\x02a.",
    "odd dict": b"\x80\x02}(X\x01\x00\x00\x00au.",
    "state of a number": b"\x80\x02K\x01}b.",
    "state of a storage": b"\x80\x02" + op_storage() + b"}b.",
    "state of a class": b"\x80\x02ccollections\nOrderedDict\n}b.",
    "attribute of a class": b"\x80\x02ctorch\nFloatStorage\n(N}X\x01\x00\x00\x00aNstb.",
    "new count of a storage": b"\x80\x02" + op_storage() + b"}X\x05\x00\x00\x00countK\x09sb.",
    "far memo": b"\x80\x02}r\xff\xff\xff\x7f.",
    "instance": b"\x80\x02(iposix\nsystem\n.",
    "object": b"\x80\x02(cposix\nsystem\nX\x01\x00\x00\x00xo.",
    "new object": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "extension": b"\x80\x02\x82\x01.",
    "text persistent id": b"Pstorage\n.",
    "call a number": b"\x80\x02K\x01)R.",
    "call a string": b"\x80\x02X\x09\x00\x00\x00os.system)R.",
    "class from text": b"\x80\x04\x8c\x02os\x8c\x06system\x93)R.",
    "class from nested": b"\x80\x04]]\x93)R.",
    "dotted class": b"\x80\x02ctorch\n_utils.os.system\n.",
    "class of torch": b"\x80\x02ctorch\nload\n.",
    "class with spaces": b"\x80\x02ctorch FloatStorage\nx\n.",
    "class without end": b"\x80\x02c" + b"a" * 100_000,
    "ordered dict of items": b"\x80\x02ccollections\nOrderedDict\n(]tR.",
    "call a storage class": b"\x80\x02ctorch\nFloatStorage\nK\x05\x85R.",
    "tuple as key": b"\x80\x02}K\x01\x85K\x01s.",
    "float as key": b"\x80\x02}G" + bytes(8) + b"K\x01s.",
    "huge key": b"\x80\x02}\x8a\x10" + b"\x7f" * 16 + b"K\x01s.",
    "huge number": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "huge text": b"\x80\x02X\xff\xff\xff\x7f.",
    "huge text, 8 bytes": b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f.",
    "huge frame": b"\x80\x04\x95" + b"\xff" * 8 + b"}.",
    "huge bytes": b"\x80\x04B\xff\xff\xff\x7f.",
    "broken text": b"\x80\x02X\x01\x00\x00\x00\xff.",
    "text with line breaks": pickled({"a\n\x1b[2Jb": NUMBER})[0],
    "class with line breaks": b"\x80\x04\x8c\x02o\n\x8c\x06sy\ntem\x93.",
}
TREES = {
    "number among tensors": {"x": np.ones(3), "epoch": 3},
    "text": {"state_dict": "x"},
    "list of tensors": [np.ones(3)],
    "no wrapper known": {"net": {"x": np.ones(3)}},
    "two prefixes": {"x": np.ones(3), "module.x": np.ones(3)},
    "a class": {"x": Operations(b"ctorch\nFloatStorage\n")},
    "a storage": {"x": op_storage()},
    "storage key of a number": {"x": op_tensor(op_storage(key=0))},
    "storage without a class": {"x": op_tensor(op_storage(b"collections\nOrderedDict"))},
    "complex": {"x": op_tensor(op_storage(b"torch\nComplexFloatStorage"))},
    "negative count": {"x": op_tensor(op_storage(count=-3))},
    "huge count": {"x": op_tensor(op_storage(count=1 << 60))},
    "larger count": {"x": op_tensor(op_storage(count=4))},
    "smaller count": {"x": op_tensor(op_storage(count=2))},
    "count of a text": {"x": op_tensor(op_storage(count="3"))},
    "no storage": {"x": op_tensor(op_storage(kind="module"))},
    "two sizes": {"x": op_tensor(), "y": op_tensor(op_storage(count=2))},
    "two types": {"x": op_tensor(), "y": op_tensor(op_storage(b"torch\nLongStorage"))},
    "missing storage": {"x": op_tensor(op_storage(key="1"))},
    "storage outside": {"x": op_tensor(op_storage(key="../../../etc/passwd"))},
    "storage is the pickle": {"x": op_tensor(op_storage(key="../data.pkl"))},
    "tensor of a number": {"x": op_tensor(3)},
    "tensor of a tensor": {"x": op_tensor(op_tensor())},
    "behind the end": {"x": op_tensor(shape=(4,))},
    "offset behind the end": {"x": op_tensor(offset=1)},
    "negative offset": {"x": op_tensor(offset=-1, shape=(2,))},
    "huge offset": {"x": op_tensor(offset=1 << 70, shape=(1,))},
    "negative size": {"x": op_tensor(shape=(-3,))},
    "two negative sizes": {"x": op_tensor(shape=(-1, -3), strides=(1, 1))},
    "negative stride": {"x": op_tensor(offset=2, strides=(-1,))},
    "expanded": {"x": op_tensor(shape=(1 << 40, 3), strides=(0, 1))},
    "expanded twice": {"x": op_tensor(shape=(2, 3), strides=(0, 1))},
    "overlapping": {"x": op_tensor(shape=(2, 2), strides=(1, 1))},
    "huge shape": {"x": op_tensor(shape=(1 << 62, 1 << 62), strides=(1, 1))},
    "huge empty shape": {"x": op_tensor(shape=(0, 1 << 62), strides=(1, 1))},
    "huge stride": {"x": op_tensor(shape=(2,), strides=(1 << 70,))},
    "fewer strides": {"x": op_tensor(shape=(3, 1), strides=(1,))},
    "many dimensions": {"x": op_tensor(shape=(1,) * 65, strides=(1,) * 65)},
    "fractional size": {"x": op_tensor(shape=(3.0,))},
    "true as size": {"x": op_tensor(shape=(True,))},
    "text as size": {"x": op_tensor(shape=("3",))},
    "list as shape": {"x": op_tensor(shape=[3])},
    "too many arguments": {"x": op_tensor(None, 0, (3,), (1,), 1, 2, 3)},
}
HOSTILE = PICKLES | {name: pickled(tree)[0] for name, tree in TREES.items()}


@BOTH
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_in_little_memory(tmp_path, name, legacy):
    path = tmp_path / "x.pth"
    container = legacy_file if legacy else zip_file
    path.write_bytes(container(HOSTILE[name], {"0": np.ones(3)}))
    tracemalloc.start()
    try:
        refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_the_tensor_of_the_hostile_table_is_itself_fine(tmp_path):
    path = tmp_path / "x.pth"
    operations = pickled({"x": op_tensor(offset=1, shape=(2, 1), strides=(1, 1 << 70))})[0]
    path.write_bytes(zip_file(operations, {"0": np.arange(3.0)}))
    np.testing.assert_array_equal(read_pth(path)["x"], [[1.0], [2.0]])


@pytest.mark.parametrize(
    "operations",
    [
        b"(" * 100_000,
        b"]" * 100_000 + b"a" * 99_999,
        b")" + b"\x85" * 100_000,
        # Each of thirty tuples holds the one before twice: 2^30 leaves for whoever walks them.
        b")" + b"q\x00h\x00\x86" * 30,
        b"}" + b"X\x01\x00\x00\x00a" + b")" + b"\x85" * 100_000 + b"s",
        b"}" + b")" + b"\x85" * 100_000 + b"K\x01s",
    ],
)
def test_deep_nesting_is_refused(tmp_path, operations):
    path = tmp_path / "x.pth"
    path.write_bytes(zip_file(b"\x80\x02" + operations + b".", {}))
    refusal(path)


def test_endless_pickles_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "x.pth"
    monkeypatch.setattr(torch_pickle, "MAX_OPERATIONS", 10_000)
    for unit in (b"}\x94", b"]", b"(", b"N", b"X\x03\x00\x00\x00abc"):
        path.write_bytes(zip_file(b"\x80\x04" + unit * 20_000 + b".", {}))
        assert "more than 10,000 operations" in refusal(path)
    monkeypatch.setattr(torch_pickle, "MAX_BYTES", 10_000)
    for legacy in (False, True):
        operations = b"\x80\x02" + pickled("x" * 20_000)[0][2:]
        path.write_bytes((legacy_file if legacy else zip_file)(operations, {}))
        assert "bytes" in refusal(path)


def test_names_in_the_archive_are_never_paths(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    operations, _ = pickled({"x": op_tensor(op_storage(key="../../../outside"))})
    for root in ("..", "/absolute", "../../up", "a"):
        path = tmp_path / "x.pth"
        path.write_bytes(zip_file(operations, {"../../../outside": np.arange(3.0)}, root=root))
        # Read from the archive, as any other name.
        np.testing.assert_array_equal(read_pth(path)["x"], np.arange(3.0))
    assert sorted(os.listdir(tmp_path)) == ["inner", "x.pth"]
    assert os.listdir(tmp_path / "inner") == []
