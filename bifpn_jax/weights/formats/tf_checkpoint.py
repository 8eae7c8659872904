"""Reads TensorFlow checkpoints, of TensorFlow 1 (by name) and 2 (by object). Needs TensorFlow.

Names are those of the variables, such as `class_net/class-0/bias`. If a checkpoint also has moving
averages, these are returned, because the published accuracies are theirs.
"""

import math
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bifpn_jax.errors import UserError
from bifpn_jax.weights.formats.archive import unpack_checkpoint
from bifpn_jax.weights.formats.format import Contents, Format

_AVERAGE = "/ExponentialMovingAverage"
_OBJECT = "/.ATTRIBUTES/VARIABLE_VALUE"
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_ARCHIVES = (".tar.gz", ".tgz")
_STATE = re.compile(r'^model_checkpoint_path:\s*"([^"]*)"', re.MULTILINE)
# Files of the checkpoint "model.ckpt-7": "model.ckpt-7.index", "model.ckpt-7.data-00000-of-00001".
_FILE = re.compile(r"(.+)\.(index|meta|data-\d+-of-\d+)")


def is_tf_checkpoint(path: str | Path) -> bool:
    """Whether `path` is named like a checkpoint that `read_tf_checkpoint` reads, or its folder.

    Files are not opened.
    """
    path = Path(path)
    if path.is_dir():
        return (path / "checkpoint").is_file() or any(path.glob("*.index"))
    return (
        path.name.endswith(_ARCHIVES)
        or _FILE.fullmatch(path.name) is not None
        or _index_of(path).is_file()
    )


def read_tf_checkpoint(path: str | Path) -> dict[str, np.ndarray]:
    """Read {name of a variable: array} from a checkpoint, in the file's types and layouts.

    Args:
        path: a checkpoint's folder, its prefix ("…/model.ckpt-7"), one of its files, or the .tar.gz
            archive in which it is published.

    Raises:
        UserError: TensorFlow is not installed, there is no checkpoint or more than one, or it is
            damaged.
    """
    path = Path(path)
    tf = _import_tensorflow(path)
    if not path.name.endswith(_ARCHIVES):
        return _read(tf, find_prefix(path))
    with tempfile.TemporaryDirectory() as folder:
        unpack_checkpoint(path, Path(folder))
        return _read(tf, find_prefix(Path(folder), named=path))


def find_prefix(path: Path, named: Path | None = None) -> Path:
    """Return the prefix of a checkpoint: the path of its files without their suffixes.

    Args:
        path: a folder, a prefix or one of the files.
        named: what to call a folder in an error, if not by its path.

    Raises:
        UserError: there is no checkpoint, or more than one.
    """
    if match := _FILE.fullmatch(path.name):
        path = path.with_name(match[1])
    if _index_of(path).is_file():
        return path
    named = named or path
    if not path.is_dir():
        raise UserError(f"{named}: no such TensorFlow checkpoint (no {_index_of(path)}).")
    if latest := _latest(path):
        return latest
    prefixes = sorted(index.name.removesuffix(".index") for index in path.glob("*.index"))
    if not prefixes:
        raise UserError(f"{named}: no TensorFlow checkpoint in this folder (no *.index).")
    if len(prefixes) > 1:
        raise UserError(
            f"{named}: several checkpoints and no file that says which counts; name one of "
            f"{', '.join(prefixes[:8])}{', …' if len(prefixes) > 8 else ''}."
        )
    return path / prefixes[0]


def _index_of(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.index")


def _latest(folder: Path) -> Path | None:
    """Read the file `checkpoint`; only the base name counts, the rest is of another machine."""
    try:
        with (folder / "checkpoint").open(errors="replace") as file:
            match = _STATE.search(file.read(1 << 16))
    except OSError:
        return None
    name = match and match[1].replace("\\", "/").rpartition("/")[2]
    prefix = folder / name if name else None
    return prefix if prefix and _index_of(prefix).is_file() else None


def _import_tensorflow(path: Path) -> Any:
    try:
        import tensorflow
    except ImportError as error:
        raise UserError(
            f"{path}: reading a TensorFlow checkpoint needs TensorFlow ({error}); install it with "
            'pip install "bifpn_jax[tensorflow]".'
        ) from error
    return tensorflow


def _read(tf: Any, prefix: Path) -> dict[str, np.ndarray]:
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        keys = _numeric(tf, reader)
        _check_size(tf, reader, keys, prefix)
        names = _names(reader, keys)
        averaged = {name.removesuffix(_AVERAGE) for name in names if name.endswith(_AVERAGE)}
        arrays = {}
        for name, key in names.items():
            if name not in averaged:
                arrays[name.removesuffix(_AVERAGE)] = reader.get_tensor(key)
    except (tf.errors.OpError, RuntimeError, ValueError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{prefix}: this TensorFlow checkpoint is incomplete or damaged ({reason}); get it "
            "again, with all its files."
        ) from error
    if not arrays:
        raise UserError(f"{prefix}: this TensorFlow checkpoint holds no arrays; name another one.")
    return arrays


def _numeric(tf: Any, reader: Any) -> list[str]:
    types = reader.get_variable_to_dtype_map()
    return [key for key, dtype in types.items() if dtype.is_floating or dtype.is_integer]


def _check_size(tf: Any, reader: Any, keys: list[str], prefix: Path) -> None:
    """Refuse shapes that are too large for the files, before allocating anything of that size."""
    shapes, types = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    claimed = sum(math.prod(shapes[key]) * types[key].size for key in keys)
    files = [
        file for file in prefix.parent.iterdir() if file.name.startswith(f"{prefix.name}.data")
    ]
    present = sum(file.stat().st_size for file in files)
    if claimed > present:
        raise ValueError(f"its index tells of {claimed:,} bytes, its data files have {present:,}")


def _names(reader: Any, keys: list[str]) -> dict[str, str]:
    """Return {name of a variable: its key in the file}."""
    if not reader.has_tensor(_OBJECT_GRAPH):
        return {key: key for key in keys}
    full_names = dict(_full_names(reader.get_tensor(_OBJECT_GRAPH)))
    names = {}
    for key in keys:
        name = full_names.get(key) or key.removesuffix(_OBJECT)
        # If two variables have the same name, the second is named by its place among the objects.
        names[key.removesuffix(_OBJECT) if name in names else name] = key
    return names


def _full_names(graph: bytes) -> Iterator[tuple[str, str]]:
    """Yield (key in the file, name) of the variables by object, without those of optimizers."""
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    for node in trackable_object_graph_pb2.TrackableObjectGraph.FromString(graph).nodes:
        for attribute in node.attributes:
            if "/.OPTIMIZER_SLOT/" not in attribute.checkpoint_key:
                yield attribute.checkpoint_key, attribute.full_name


FORMAT = Format(
    kind="a TensorFlow checkpoint",
    recognises=lambda path, start: is_tf_checkpoint(path),
    read=lambda path: Contents(read_tf_checkpoint(path)),
)
