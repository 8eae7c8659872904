"""Writes a model's variables to a `.safetensors` file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bifpn_jax.weights.formats.safetensors_file import write_safetensors
from bifpn_jax.weights.naming.own import flat_names


def save_weights(
    path: str | Path, variables: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Write variables to a file that `load_weights` reads back, bit for bit.

    Args:
        path: the file, `.safetensors`; an existing one is replaced.
        variables: {"params": …, "batch_stats": …}.
        metadata: texts to store with them.

    Raises:
        UserError: the file cannot be written.
    """
    write_safetensors(path, flat_names(variables), metadata or {})
