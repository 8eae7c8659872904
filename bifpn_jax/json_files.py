"""Reads JSON files with one-line errors, and writes them atomically."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bifpn_jax.errors import UserError


def read_json(path: str | Path) -> Any:
    """Return the content of a JSON file; raise a UserError if it cannot be read."""
    if Path(path).exists() and not Path(path).is_file():  # opening a pipe would wait forever
        raise UserError(f"cannot read {path}: a folder, pipe or device; check the path")
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check the path") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); write it again") from error


def write_json(path: str | Path, content: Mapping[str, Any]) -> Path:
    """Write an object, indented; return the path."""
    return replace_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def replace_text(path: str | Path, text: str) -> Path:
    """Write a temporary file and rename it, so that a reader never sees half a file.

    Creates folders if necessary; returns the path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return path
