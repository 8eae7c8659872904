"""Reads the pickles inside PyTorch files as data: nothing that they name is imported or called.

A pickle is a program for a stack machine, Python's `pickle.Unpickler`. It is given a checked copy,
with no more operations than a real file has, and only those that build dicts, lists, tuples,
strings, numbers and tensors. A file may name only the classes and functions of a state dict, which
are mere labels here. Anything else is refused.
"""

import io
import pickle
import pickletools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

# A tensor of a real file takes about 35 operations and 150 bytes.
MAX_OPERATIONS = 1_000_000
MAX_BYTES = 1 << 24
MAX_LINE = 1 << 10
MAX_DIMENSIONS = 16

# Element types of storages, little-endian; numpy has no "bfloat16".
STORAGES = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}
ORDERED_DICT = "collections.OrderedDict"
TENSOR = "torch._utils._rebuild_tensor_v2"
PARAMETER = "torch._utils._rebuild_parameter"

_OPERATIONS = """
PROTO FRAME STOP MARK BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET EMPTY_DICT EMPTY_LIST
EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS GLOBAL STACK_GLOBAL BINPERSID
REDUCE BUILD BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE NONE NEWTRUE NEWFALSE
""".split()  # noqa: SIM905 (35 lines)
# Replacements of operations in the copy.
_REPLACED = {
    # The bytes of a frame are checked one by one.
    "FRAME": b"",
    # Only a class of ours checks keys before they are hashed.
    "EMPTY_DICT": b"ccollections\nOrderedDict\n)R",
}


class RefusedError(Exception):
    """The reason why a file is not read, and what to do about it."""


class _Stateless:
    """An object whose attributes a file may not set."""

    def __setstate__(self, state: object) -> NoReturn:
        raise _unexpected("an object with a state of its own")


@dataclass(frozen=True)
class Storage(_Stateless):
    """A flat array stored elsewhere in the file."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class Tensor(_Stateless):
    """A view of a storage: offset and strides in elements, as in the file and not yet checked."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def shown(text: object) -> str:
    """Return text from a file in a form fit for a one-line message."""
    return repr(str(text)[:100])


def read_pickle(file: BinaryIO) -> tuple[Any, Mapping[str, Storage]]:
    """Read the pickle at the position of `file`; return its value and the storages it names.

    Reads to the end of the pickle and no further. Values are dicts, lists, tuples, strings,
    numbers, None, `Tensor`, `Storage` and labels of classes.

    Raises:
        RefusedError: the pickle has anything else, is damaged, or is far larger than any real one.
    """
    try:
        unpickler = _Unpickler(_checked(file))
        return unpickler.load(), unpickler.storages
    except RefusedError:
        raise
    except Exception as error:
        # Damage: bytes that are no pickle, or operands that are not there.
        raise RefusedError("its pickle is damaged; download or save the file again") from error


def _checked(file: BinaryIO) -> BinaryIO:
    """Copy the next pickle, all of whose operations must be among those of a state dict."""
    source, copy = _Bounded(file), io.BytesIO()
    for count, (operation, argument, _) in enumerate(pickletools.genops(source)):
        name = operation.name
        if count >= MAX_OPERATIONS:
            raise RefusedError(f"its pickle has more than {MAX_OPERATIONS:,} operations")
        if name not in _OPERATIONS:
            raise _unexpected(f"the pickle operation {name}")
        if name == "GLOBAL":  # refuses unknown names before anything else is read
            _Label(argument.replace(" ", ".", 1))
        if name in ("BINPUT", "LONG_BINPUT") and argument > count:
            raise ValueError("a place in the memo far behind its end, all of which would be made")
        data = source.taken()
        copy.write(_REPLACED.get(name, data))
    copy.seek(0)
    return copy


class _Bounded:
    """The file that `pickletools.genops` reads from, limited to the size of a real pickle."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.left, self.read_last = file, MAX_BYTES, bytearray()

    def read(self, size: int) -> bytes:
        if size > self.left:
            raise RefusedError(f"its pickle has more than {MAX_BYTES:,} bytes")
        return self._passed_on(self.file.read(size))

    def readline(self) -> bytes:
        return self._passed_on(self.file.readline(min(self.left, MAX_LINE)))

    def _passed_on(self, data: bytes) -> bytes:
        self.left -= len(data)
        self.read_last += data
        return data

    def taken(self) -> bytes:
        """Return what was read since the last call."""
        data = bytes(self.read_last)
        self.read_last.clear()
        return data


class _Unpickler(pickle.Unpickler):
    """Knows the classes and functions of a state dict by name, and no others."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        return _Label(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Storage:
        storage = _storage(pid)
        if self.storages.setdefault(storage.key, storage) != storage:
            raise RefusedError(f"its storage {shown(storage.key)} has two types or sizes")
        return storage


class _Dict(dict):
    """A dict from a file, without unsafe keys: tuples may recurse, and large numbers collide."""

    __slots__ = ()

    def __setitem__(self, key: Any, value: Any) -> None:
        if not (isinstance(key, str) or (isinstance(key, int) and 0 <= key < 1 << 31)):
            raise _unexpected("a dict whose keys are not strings")
        super().__setitem__(key, value)

    def __setstate__(self, state: object) -> None:
        """Drop the module versions, which a state dict has as an attribute."""


class _Label(_Stateless):
    """A class or function that a pickle names; calling it returns our own data types."""

    def __init__(self, name: str) -> None:
        if name not in STORAGES and name not in (ORDERED_DICT, TENSOR, PARAMETER):
            raise _unexpected(shown(name))
        self.name = name

    def __call__(self, *arguments: Any) -> Any:
        match arguments:
            case () if self.name == ORDERED_DICT:
                return _Dict()
            case (Tensor() as data, _, _) if self.name == PARAMETER:
                return data
            case (Storage() as storage, offset, tuple(shape), tuple(strides), _, _) if (
                self.name == TENSOR
                and len(shape) == len(strides) <= MAX_DIMENSIONS
                and all(type(number) is int for number in (offset, *shape, *strides))
            ):
                return Tensor(storage, offset, shape, strides)
        raise _unexpected("a call with unusual arguments")


def _storage(value: Any) -> Storage:
    match value:
        case ("storage", _Label(name=name), str(key), str(), int(count), *rest) if (
            name in STORAGES and count >= 0 and rest in ([], [None])
        ):
            return Storage(key, STORAGES[name], count)
    raise _unexpected("a storage of an unknown kind")


def _unexpected(what: str) -> RefusedError:
    return RefusedError(
        f"it holds {what}, which no state dict needs; refused, nothing of it was run. Save the "
        "tensors alone: torch.save(model.state_dict(), path)"
    )
