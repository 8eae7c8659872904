"""Writes PyTorch files for tests without PyTorch, both containers, as `torch.save` would."""

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bifpn_jax.errors import UserError
from bifpn_jax.weights.formats.pth_file import read_pth

CLASSES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}
MAGIC = 0x1950A86A20F9469CFC6C
ORDERED_DICT = b"ccollections\nOrderedDict\n)R"


class Operations(bytes):
    """A value given by the pickle operations that build it."""


def write_pth(path: Path, tree: Any, *, legacy: bool = False, byte_order: str = "little") -> Path:
    """Writes a state dict, or any tree of dicts, lists, tuples, strings, numbers and arrays.

    Arrays that are views of one array share its storage, with their offset and strides, as tensors
    do. Arrays of ml_dtypes.bfloat16 become bfloat16 tensors.
    """
    operations, storages = pickled(tree, legacy=legacy)
    if legacy:
        path.write_bytes(legacy_file(operations, storages))
    else:
        path.write_bytes(zip_file(operations, storages, byte_order=byte_order))
    return path


def pickled(tree: Any, *, legacy: bool = False) -> tuple[bytes, dict[str, np.ndarray]]:
    """The pickle of a tree, and its storages by key."""
    writer = _Writer(legacy)
    return b"\x80\x02" + writer.value(tree) + b".", writer.storages


def zip_file(
    operations: bytes,
    storages: Mapping[str, np.ndarray],
    *,
    byte_order: str | None = "little",
    root: str = "archive",
    compression: int = zipfile.ZIP_STORED,
) -> bytes:
    """A zip container around a pickle and flat storages."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr(f"{root}/data.pkl", operations)
        if byte_order is not None:
            archive.writestr(f"{root}/byteorder", byte_order)
        for key, values in storages.items():
            order = ">" if byte_order == "big" else "<"
            archive.writestr(f"{root}/data/{key}", _raw(values, order))
        archive.writestr(f"{root}/version", "3\n")
    return file.getvalue()


def legacy_file(operations: bytes, storages: Mapping[str, np.ndarray]) -> bytes:
    """A legacy stream around a pickle and flat storages."""
    system = {
        "protocol_version": 1001,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    parts = [pickle.dumps(value, protocol=2) for value in (MAGIC, 1001, system)]
    parts += [operations, pickle.dumps(sorted(storages), protocol=2)]
    for key in sorted(storages):
        parts += [struct.pack("<q", storages[key].size), _raw(storages[key], "<")]
    return b"".join(parts)


def _raw(values: np.ndarray, order: str) -> bytes:
    if values.dtype.name == "bfloat16":
        values = values.view(np.uint16)
    return values.astype(values.dtype.newbyteorder(order)).tobytes()


def refusal(path):
    """The message with which a file is refused: one line that names the file."""
    with pytest.raises(UserError) as caught:
        read_pth(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.isprintable()
    assert len(message) < 400 + len(str(path))
    return message


class _Writer:
    def __init__(self, legacy: bool) -> None:
        self.legacy = legacy
        self.storages: dict[str, np.ndarray] = {}
        self.owners: list[np.ndarray] = []

    def value(self, value: Any) -> bytes:
        match value:
            case Operations():
                return bytes(value)
            case np.ndarray() | np.generic():
                return self.tensor(np.asanyarray(value))
            case dict():
                items = b"".join(self.value(k) + self.value(v) for k, v in value.items())
                state = b"}" + self.value("_metadata") + ORDERED_DICT + b"sb"
                return ORDERED_DICT + b"(" + items + b"u" + state
            case list():
                return b"](" + b"".join(map(self.value, value)) + b"e"
            case tuple():
                return b"(" + b"".join(map(self.value, value)) + b"t"
            case str():
                text = value.encode()
                return b"X" + struct.pack("<I", len(text)) + text
            case None:
                return b"N"
            case bool():
                return b"\x88" if value else b"\x89"
            case int():
                size = value.bit_length() // 8 + 1
                return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)
            case float():
                return b"G" + struct.pack(">d", value)
        raise TypeError(type(value))

    def tensor(self, array: np.ndarray) -> bytes:
        key, values, offset, strides = self.storage(array)
        arguments = self.persistent_id(key, values), offset, array.shape, strides, False
        arguments += (Operations(ORDERED_DICT),)
        return b"ctorch._utils\n_rebuild_tensor_v2\n" + self.value(arguments) + b"R"

    def persistent_id(self, key: str, values: np.ndarray) -> Operations:
        storage_class = Operations(b"ctorch\n" + CLASSES[values.dtype.name].encode() + b"\n")
        parts = ("storage", storage_class, key, "cpu", values.size)
        return Operations(self.value((*parts, None) if self.legacy else parts) + b"Q")

    def storage(self, array: np.ndarray) -> tuple[str, np.ndarray, int, tuple[int, ...]]:
        """Key and values of the array's storage; offset and strides in elements."""
        owner = array
        while isinstance(owner.base, np.ndarray) and owner.base.dtype == array.dtype:
            owner = owner.base
        if not owner.flags.forc or min(array.strides, default=0) < 0:
            owner = array = array.copy()
        known = next((i for i, other in enumerate(self.owners) if other is owner), None)
        if known is None:
            known = len(self.owners)
            self.owners.append(owner)
            key = str(94_000_000 + known) if self.legacy else str(known)
            self.storages[key] = owner.ravel("K")
        key = list(self.storages)[known]
        address = [a.__array_interface__["data"][0] for a in (array, owner)]
        offset = (address[0] - address[1]) // array.itemsize
        strides = tuple(stride // array.itemsize for stride in array.strides)
        return key, self.storages[key], offset, strides
