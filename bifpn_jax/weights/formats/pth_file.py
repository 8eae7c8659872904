"""Reads PyTorch files (`.pth`, `.pt`, `.bin`) without PyTorch: both containers, only tensors.

The zip container has a pickle, `data.pkl`, and a member `data/KEY` per storage. The legacy one is
a stream: pickles of a magic number, a version, facts about the machine, the value, and the keys of
the storages; then for each key an int64 count and the raw values.
"""

import io
import math
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from bifpn_jax.errors import UserError
from bifpn_jax.weights.formats.format import Contents, Format
from bifpn_jax.weights.formats.torch_pickle import (
    MAX_BYTES,
    RefusedError,
    Storage,
    Tensor,
    read_pickle,
    shown,
)

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_VERSION = 1001
# Where a training script keeps the state dict, averaged weights first.
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
MAX_DIRECTORY = 1 << 22  # of a zip file; a member takes about 100 bytes
CHUNK = 1 << 20
ALONE = "save the state dict alone: torch.save(model.state_dict(), path)"
DAMAGED = "download or save the file again"
# What the standard library raises on damaged zip files.
ZIP_ERRORS = (zipfile.BadZipFile, struct.error, NotImplementedError, EOFError)


def read_pth(path: str | Path) -> dict[str, np.ndarray]:
    """Read the tensors of a state dict, by name, without ever executing the file's pickle.

    A state dict inside a training checkpoint is found under one of `WRAPPERS`; the prefix "module."
    of data-parallel training is removed. bfloat16 becomes float32, other types are kept. Tensors
    that share a storage in the file share memory here.

    Raises:
        UserError: the file is not a PyTorch file, is damaged, or contains more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        problem = "is not a file" if path.exists() else "does not exist"
        raise UserError(f"{path} {problem}; pass the path of a PyTorch file, e.g. model.pth.")
    try:
        with _ShortReads(io.FileIO(path)) as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            start = file.peek(4)[:4]
            if start == b"PK\x03\x04":
                return _read_zip(file, size)
            if start[:1] == b"\x80":
                return _read_legacy(file, size)
            raise RefusedError(f"not a PyTorch file: it begins with {start!r}; {DAMAGED}")
    except RefusedError as error:
        raise UserError(f"{path}: {error}.") from error
    except OSError as error:
        reason = error.strerror or shown(error)
        raise UserError(f"{path} cannot be read: {reason}; check its permissions.") from error
    except (*ZIP_ERRORS, ValueError, OverflowError) as error:
        reason = shown(" ".join(str(error).split()) or type(error).__name__)
        raise UserError(f"{path} is damaged ({reason}); {DAMAGED}.") from error


class _ShortReads(io.BufferedReader):
    """A file for `zipfile`, which would read a directory of any size that the file declares."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > MAX_DIRECTORY:
            raise RefusedError(f"its zip directory is larger than any real one; {DAMAGED}")
        return super().read(size)


def _read_zip(file: io.BufferedReader, size: int) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        members = _members(archive, size)
        roots = [name for name in members if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise RefusedError(
                f"a zip file with {len(roots)} members */data.pkl, where torch.save writes one; "
                "save the state dict with torch.save"
            )
        prefix = roots[0].removesuffix("data.pkl")
        if members[roots[0]].file_size > MAX_BYTES:
            raise RefusedError(f"its pickle has more than {MAX_BYTES:,} bytes")
        pickle = _member_bytes(archive, members[roots[0]])
        order = _byte_order(archive, members.get(f"{prefix}byteorder"))
        tensors = _state_dict(read_pickle(io.BytesIO(pickle))[0])
        arrays = {}
        for storage in {tensor.storage for tensor in tensors.values()}:
            name = f"{prefix}data/{storage.key}"
            if name not in members:
                raise RefusedError(f"its member {shown(name)} is missing; {DAMAGED}")
            if members[name].file_size != _byte_count(storage):
                raise RefusedError(
                    f"its member {shown(name)} has not the size of its values; {DAMAGED}"
                )
            arrays[storage] = _values(storage, _member_bytes(archive, members[name]), order)
    return {name: _view(name, tensor, arrays[tensor.storage]) for name, tensor in tensors.items()}


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Return the members by name, after checking that none is compressed and all fit the file."""
    members = {info.filename: info for info in archive.infolist()}
    if len(members) != len(archive.infolist()):
        raise RefusedError(f"two of its members have the same name; {DAMAGED}")
    for name, info in members.items():
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise RefusedError(
                f"its member {shown(name)} is compressed or encrypted, which torch.save never does;"
                " save the state dict with torch.save"
            )
    if sum(max(info.file_size, info.compress_size) for info in members.values()) > size:
        raise RefusedError(f"its members are larger than the file; {DAMAGED}")
    return members


def _member_bytes(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytearray:
    """Read a member, whose size has been checked, into contiguous memory."""
    data = bytearray(info.file_size)
    with archive.open(info) as member:
        for start in range(0, len(data), CHUNK):
            part = memoryview(data)[start : start + CHUNK]
            part[:] = member.read(len(part))
    return data


def _byte_order(archive: zipfile.ZipFile, info: zipfile.ZipInfo | None) -> str:
    if info is None:  # files of older versions, all from little-endian machines
        return "<"
    name = bytes(_member_bytes(archive, info)) if info.file_size <= 16 else b""
    if name not in (b"little", b"big"):
        raise RefusedError(f"its byte order is neither little nor big; {DAMAGED}")
    return "<" if name == b"little" else ">"


def _read_legacy(file: io.BufferedReader, size: int) -> dict[str, np.ndarray]:
    magic, _ = read_pickle(file)
    version, _ = read_pickle(file) if magic == LEGACY_MAGIC else (None, {})
    if version != LEGACY_VERSION:
        raise RefusedError("a pickle, but not from torch.save; save the state dict with torch.save")
    # Facts about the machine are not needed: values are always little-endian.
    read_pickle(file)
    value, storages = read_pickle(file)
    keys, _ = read_pickle(file)
    tensors = _state_dict(value)
    needed = {tensor.storage for tensor in tensors.values()}
    arrays = {}
    for key in keys if isinstance(keys, list) else []:
        storage = storages.get(key) if isinstance(key, str) else None
        count = file.read(8)
        if storage is None or storage in arrays or count != struct.pack("<q", storage.count):
            raise RefusedError(f"its list of storages does not fit its tensors; {DAMAGED}")
        if _byte_count(storage) > size - file.tell():
            raise RefusedError(f"it ends within its values; {DAMAGED}")
        if storage in needed:
            data = bytearray(_byte_count(storage))
            file.readinto(data)
            arrays[storage] = _values(storage, data, "<")
        else:
            file.seek(_byte_count(storage), io.SEEK_CUR)
    if needed - set(arrays):
        raise RefusedError(f"it lacks the values of {len(needed - set(arrays))} tensors; {DAMAGED}")
    return {name: _view(name, tensor, arrays[tensor.storage]) for name, tensor in tensors.items()}


def _state_dict(value: Any) -> dict[str, Tensor]:
    """Return the tensors of a state dict or of a checkpoint that wraps one."""
    if isinstance(value, dict):
        value = next((value[key] for key in WRAPPERS if isinstance(value.get(key), dict)), value)
    if not isinstance(value, dict) or not value:
        raise RefusedError(f"it holds no state dict; {ALONE}")
    tensors = {}
    for key, tensor in value.items():
        name = str(key).removeprefix("module.")
        if not isinstance(tensor, Tensor):
            raise RefusedError(f"its entry {shown(name)} is not a tensor; {ALONE}")
        if name in tensors:
            raise RefusedError(f"it has two tensors {shown(name)}; {ALONE}")
        tensors[name] = tensor
    return tensors


def _byte_count(storage: Storage) -> int:
    return storage.count * _dtype(storage).itemsize


def _dtype(storage: Storage) -> np.dtype:
    return np.dtype("<u2" if storage.dtype == "bfloat16" else storage.dtype)


def _values(storage: Storage, data: bytearray, order: str) -> np.ndarray:
    """Return the values of a storage, in this machine's byte order; bfloat16 as float32."""
    values = np.frombuffer(data, _dtype(storage).newbyteorder(order))
    if storage.dtype == "bfloat16":
        # The upper half of a float32's bits.
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _view(name: str, tensor: Tensor, values: np.ndarray) -> np.ndarray:
    """Return the tensor as a view of its storage's values, after checking that it fits."""
    shape, strides, offset = tensor.shape, tensor.strides, tensor.offset
    elements = math.prod(shape)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if (
        min((offset, *shape, *strides)) < 0
        or elements > len(values)
        or (elements and last >= len(values))
        or math.prod(n or 1 for n in shape) > max(len(values), 1 << 31)
    ):
        raise RefusedError(
            f"its tensor {shown(name)} does not fit its {len(values)} values; save clones of the "
            "tensors, or download the file again"
        )
    if not elements:
        return np.empty(shape, values.dtype)
    # numpy would refuse a huge stride even along an axis of length 1.
    steps = [
        stride * values.itemsize if n > 1 else 0 for n, stride in zip(shape, strides, strict=True)
    ]
    return np.ndarray(shape, values.dtype, values, offset * values.itemsize, steps)


FORMAT = Format(
    kind="an effdet or timm .pth",
    recognises=lambda path, start: start[:2] in (b"PK", b"\x80\x02"),
    read=lambda path: Contents(read_pth(path)),
)
