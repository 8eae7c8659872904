"""Loads published weights into a model, and accounts for every entry on both sides."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

from bifpn_jax.errors import UserError
from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.weights import effdet

Variables = dict[str, Any]


class LoadReport(NamedTuple):
    """What `load_weights` did: names loaded, and entries of the file that hold no weights."""

    loaded: list[str]
    ignored: list[str]

    def __str__(self) -> str:
        """One line for a log."""
        return f"loaded {len(self.loaded)} arrays; ignored {len(self.ignored)} counters."


def variable_shapes(model: EfficientDet) -> dict[tuple[str, ...], tuple[int, ...]]:
    """{(collection, module, …, leaf): shape} of all variables of a model, without computing any."""
    image = jax.ShapeDtypeStruct((1, 128, 128, 3), np.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    return {path: leaf.shape for path, leaf in traverse_util.flatten_dict(variables).items()}


def load_weights(
    state_dict: Mapping[str, np.ndarray], model: EfficientDet, *, with_report: bool = False
) -> Variables | tuple[Variables, LoadReport]:
    """Variables of `model` from an effdet state dict.

    Args:
        state_dict: {effdet name: array}, torch's layout; arrays are what `np.asarray` takes.
        model: the model that fits the weights, e.g. `create_model("d0")` for tf_efficientdet_d0.
        with_report: also return the `LoadReport`.

    Returns:
        {"params": …, "batch_stats": …}, numpy float32.

    Raises:
        UserError: an entry is missing, left over, or has another shape. None is silently skipped.
    """
    effdet.check_is_effdet(set(state_dict))
    loaded, missing, misfits = {}, [], []
    names = {}
    for path, shape in variable_shapes(model).items():
        name = effdet.effdet_name(path[1:], model)
        names[name] = path
        if name not in state_dict:
            missing.append(name)
            continue
        value = effdet.from_effdet(state_dict[name], path)
        if value.shape != shape:
            misfits.append(f"{name} gives {value.shape}, the model has {shape}")
        loaded[path] = value
    ignored = [name for name in state_dict if effdet.IGNORED.search(name)]
    unused = [name for name in state_dict if name not in names and name not in ignored]
    for problem, entries in (
        ("lacks", missing),
        ("has entries that the model lacks:", unused),
        ("does not fit:", misfits),
    ):
        if entries:
            raise UserError(
                f"the state dict {problem} {entries[0]}"
                + (f" and {len(entries) - 1} more" if len(entries) > 1 else "")
                + "; create the model that these weights belong to (name, num_classes, settings)."
            )
    variables = traverse_util.unflatten_dict(loaded)
    return (variables, LoadReport(sorted(names), ignored)) if with_report else variables
