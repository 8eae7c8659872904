"""Reads and writes `.safetensors` files: named arrays with a checked header and metadata."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np

from bifpn_jax.errors import UserError
from bifpn_jax.weights.formats.format import Contents, Format

# bfloat16 becomes float32; the others stay as they are.
READABLE = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"}


def read_safetensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the arrays of a file by name, and its metadata.

    Raises:
        UserError: the file is not a safetensors file, is damaged, or has an unsupported type.
    """
    safetensors, path = _safetensors(), Path(path)
    if not path.is_file():
        problem = "is not a file" if path.exists() else "does not exist"
        raise UserError(f"{path} {problem}; pass the path of a .safetensors file.")
    arrays = {}
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                kind = file.get_slice(name).get_dtype()
                if kind not in READABLE:
                    raise UserError(
                        f"{path}: {name!r} is of type {kind}; only {', '.join(sorted(READABLE))} "
                        "are read here, save the weights as F32."
                    )
                array = file.get_tensor(name)
                arrays[name] = array.astype(np.float32) if kind == "BF16" else array
            return arrays, file.metadata() or {}
    except (safetensors.SafetensorError, OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path} cannot be read ({reason}); download or save the file again."
        ) from error


def write_safetensors(
    path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write arrays and metadata; the file gets its name only when it is complete.

    Raises:
        UserError: the folder is missing, not writable or full.
    """
    _safetensors()
    from safetensors.numpy import save_file

    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.touch()  # the package would make it readable only by the owner
        mode = partial.stat().st_mode
        # The package writes the memory of an array as it is.
        save_file(
            {name: np.asarray(array, order="C") for name, array in arrays.items()},
            partial,
            dict(metadata),
        )
        partial.chmod(mode)
        partial.replace(path)
    except Exception as error:
        partial.unlink(missing_ok=True)
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path} cannot be written ({reason}); check the folder and its free space."
        ) from error


def _safetensors() -> ModuleType:
    try:
        import safetensors
    except ImportError as error:
        raise UserError(
            ".safetensors files need the package safetensors; pip install safetensors."
        ) from error
    return safetensors


FORMAT = Format(
    kind="an effdet or timm .safetensors",
    recognises=lambda path, start: start[8:9] == b"{",
    read=lambda path: Contents(*read_safetensors(path)),
)
