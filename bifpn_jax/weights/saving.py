"""Writes a model's variables as one `.safetensors` file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bifpn_jax.weights.formats.safetensors_file import write_safetensors
from bifpn_jax.weights.naming.own import flat_names


def save_weights(
    path: str | Path, variables: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes variables to a file that `load_weights` reads back, bit for bit.

    Args:
        path: of the file, `.safetensors`; one that is there is replaced.
        variables: {"params": …, "batch_stats": …}.
        metadata: texts to keep with them.

    Raises:
        UserError: the file cannot be written.
    """
    write_safetensors(path, flat_names(variables), metadata or {})
