"""The pickles inside PyTorch files, read as data: nothing in them is ever called or imported.

A pickle is a program for a stack machine. This one knows the operations that build dicts, lists,
tuples, strings and numbers, and of the classes a file may name only those of a state dict, as mere
labels. Anything else is refused, and so is more than a real file needs.
"""

import pickletools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

# A tensor of a real file takes about 35 operations and 150 bytes.
MAX_OPERATIONS = 1_000_000
MAX_BYTES = 1 << 24
MAX_LINE = 1 << 10
MAX_DIMENSIONS = 16

# Element types of storages, little-endian; "bfloat16" is none of numpy's.
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

_NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
_STRINGS = ("BINUNICODE", "SHORT_BINUNICODE")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class RefusedError(Exception):
    """Why a file is not read, with the cure."""


@dataclass(frozen=True)
class Label:
    """A class or function that a pickle names."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A flat array that lies elsewhere in the file."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage: offset and strides in elements. What the file says; not yet checked."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def shown(text: object) -> str:
    """A text from a file, fit for a one-line message."""
    return repr(str(text)[:100])


def read_pickle(file: BinaryIO) -> tuple[Any, Mapping[str, Storage]]:
    """The value of the pickle that begins at the position of `file`, and the storages it names.

    Reads to the end of the pickle and no further. Values are dicts, lists, tuples, strings,
    numbers, None, `Tensor`, `Storage` and `Label`.

    Raises:
        RefusedError: anything else is in it, it is damaged, or far larger than any real one.
    """
    machine = _Machine()
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(_Bounded(file))):
            if count >= MAX_OPERATIONS:
                raise RefusedError(f"its pickle has more than {MAX_OPERATIONS:,} operations")
            machine.step(operation.name, argument)
    except (ValueError, TypeError, IndexError, KeyError) as error:
        # Damage: bytes that are no pickle, or operands that are not there.
        raise RefusedError("its pickle is damaged; download or save the file again") from error
    return machine.stack.pop(), machine.storages


class _Bounded:
    """What `pickletools.genops` reads from: never more than a real pickle has."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.left = file, MAX_BYTES

    def read(self, size: int) -> bytes:
        if size > self.left:
            raise RefusedError(f"its pickle has more than {MAX_BYTES:,} bytes")
        self.left -= size
        return self.file.read(size)

    def readline(self) -> bytes:
        line = self.file.readline(min(self.left, MAX_LINE))
        self.left -= len(line)
        return line


class _Machine:
    """Stack, marks and memo. No step recurses, copies or hashes what a file has nested."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                if len(stack) != 1:
                    raise ValueError("one value is the result")
            case "MARK":
                self.marks.append(len(stack))
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "TUPLE":
                stack.append(tuple(self.take_from_mark()))
            case "APPEND":
                self.extend([stack.pop()])
            case "APPENDS":
                self.extend(self.take_from_mark())
            case "SETITEM":
                self.update(self.take(2))
            case "SETITEMS":
                self.update(self.take_from_mark())
            case "GLOBAL":
                stack.append(_label(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                stack.append(_label(".".join(self.take(2))))
            case "BINPERSID":
                storage = _storage(stack.pop())
                if self.storages.setdefault(storage.key, storage) != storage:
                    raise RefusedError(f"its storage {shown(storage.key)} has two types or sizes")
                stack.append(storage)
            case "REDUCE":
                function, arguments = self.take(2)
                stack.append(_built(function, arguments))
            case "BUILD":
                # A state dict carries the versions of its modules as an attribute; not needed.
                stack.pop()
                if not isinstance(stack[-1], dict):
                    raise _unexpected("an object with a state of its own")
            case _ if name in _NUMBERS or name in _STRINGS:
                stack.append(argument)
            case _ if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case _ if name in _TUPLES:
                stack.append(tuple(self.take(_TUPLES[name])))
            case _:
                raise _unexpected(f"the pickle operation {name}")

    def take(self, count: int) -> list[Any]:
        """The topmost `count` values, removed from the stack."""
        start = len(self.stack) - count
        if start < (self.marks[-1] if self.marks else 0):
            raise IndexError("the stack is too short")
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def take_from_mark(self) -> list[Any]:
        """The values above the topmost mark."""
        return self.take(len(self.stack) - self.marks.pop())

    def extend(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise _unexpected("an object that is filled like a list")
        self.stack[-1].extend(values)

    def update(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict) or len(values) % 2:
            raise _unexpected("an object that is filled like a dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            # Tuples would be hashed recursively, and large numbers can be made to collide.
            if not (isinstance(key, str) or (isinstance(key, int) and 0 <= key < 1 << 31)):
                raise _unexpected("a dict whose keys are not strings")
            self.stack[-1][key] = value


def _unexpected(what: str) -> RefusedError:
    return RefusedError(
        f"it holds {what}, which no state dict needs; refused, nothing of it was run. Save the "
        "tensors alone: torch.save(model.state_dict(), path)"
    )


def _label(name: str) -> Label:
    if name not in STORAGES and name not in (ORDERED_DICT, TENSOR, PARAMETER):
        raise _unexpected(shown(name))
    return Label(name)


def _storage(value: Any) -> Storage:
    match value:
        case ("storage", Label(name), str(key), str(), int(count)) | (
            "storage",
            Label(name),
            str(key),
            str(),
            int(count),
            None,
        ) if name in STORAGES and count >= 0:
            return Storage(key, STORAGES[name], count)
    raise _unexpected("a storage of an unknown kind")


def _built(function: Any, arguments: Any) -> Any:
    """What calling one of the known functions gives: data of our own."""
    name = function.name if isinstance(function, Label) else ""
    match arguments:
        case () if name == ORDERED_DICT:
            return {}
        case (Tensor() as data, _, _) if name == PARAMETER:
            return data
        case (Storage() as storage, offset, tuple(shape), tuple(strides), _, _) if name == TENSOR:
            if len(shape) == len(strides) <= MAX_DIMENSIONS and all(
                type(number) is int for number in (offset, *shape, *strides)
            ):
                return Tensor(storage, offset, shape, strides)
    raise _unexpected("a call with unusual arguments")
