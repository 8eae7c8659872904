"""Initial values of all variables of a network, drawn at once.

`model.init` draws every parameter by a separate operation, and hundreds of these take half a minute
to compile. Here one program per distribution draws for all parameters; the distributions are those
of `model.init`, but the values differ.
"""

import zlib
from collections.abc import Callable, Collection
from contextlib import nullcontext
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from bifpn_jax.models.initializers import Constant, Draws, Initializer
from bifpn_jax.named_parts import is_code, reported

Path = tuple[str, ...]  # ("params", "backbone", "stem_conv", "kernel")

_ROW = 1024  # values per key
# The attributes of a model that may be code of users.
_PARTS = ("backbone", "feature_network", "fusion", "norm", "activation")


def init_variables(model: nn.Module, seed: int) -> dict[str, Any]:
    """Return freshly initialised variables of `model`, a pure function of the seed."""
    return jax.device_put(traverse_util.unflatten_dict(initial_values(model, seed)))


def variable_shapes(model: nn.Module) -> dict[str, Any]:
    """Return the shapes of the variables of `model`, without computing anything.

    Raises:
        UserError: a custom part of the model fails.
    """
    return _shapes(model, 0)


def _shapes(model: nn.Module, seed: int) -> dict[str, Any]:
    parts = {name: getattr(model, name, None) for name in _PARTS}
    custom = {name: part for name, part in parts.items() if is_code(part) or callable(part)}
    said = " or ".join(f"{name}={part}" for name, part in custom.items())
    with reported(f"the model with {said}") if custom else nullcontext():
        return jax.eval_shape(model.init, jax.random.key(seed), _image())


def initial_values(
    model: nn.Module, seed: int, only: Collection[Path] | None = None
) -> dict[Path, np.ndarray]:
    """Return float32 values by path; they depend on seed, path, shape and initialiser.

    Args:
        model: any model that takes images. The initialiser of a variable NAME is the attribute
            NAME_init of its layer; a variable whose layer has none of ours is left to the model's
            `init`.
        seed: seed of the draws.
        only: paths of the variables to return; None for all.
    """
    found, initializers = _initializers(model, seed)
    shapes = {
        path: leaf.shape
        for path, leaf in traverse_util.flatten_dict(found).items()
        if only is None or path in only
    }
    values: dict[Path, np.ndarray] = {}
    drawn: dict[Any, dict[Path, Draws]] = {}
    others: list[Path] = []
    for path in shapes:
        initializer = initializers.get(path)
        if isinstance(initializer, Constant):
            values[path] = np.full(shapes[path], initializer.value, np.float32)
        elif isinstance(initializer, Draws):
            drawn.setdefault(initializer.distribution, {})[path] = initializer
        else:
            others.append(path)
    for distribution, initializers in drawn.items():
        unit = _draw(distribution, {path: shapes[path] for path in initializers}, seed)
        for path, initializer in initializers.items():
            values[path] = unit[path] * np.float32(initializer.factor(shapes[path]))
    if others:
        values |= _by_init(model, seed, others)
    return {path: values[path] for path in shapes}


def _initializers(
    model: nn.Module, seed: int
) -> tuple[dict[str, Any], dict[Path, Initializer | None]]:
    """Return the shapes of all variables, and the initialisers that layers have for them."""
    layers: dict[tuple[str, ...], nn.Module] = {}

    def note_layer(
        next_call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        layers[context.module.path] = context.module
        return next_call(*args, **kwargs)

    with nn.intercept_methods(note_layer):
        shapes = _shapes(model, seed)
    return shapes, {
        path: getattr(layers.get(path[1:-1]), f"{path[-1]}_init", None)
        for path in traverse_util.flatten_dict(shapes)
    }


def _draw(
    distribution: Any, shapes: dict[Path, tuple[int, ...]], seed: int
) -> dict[Path, np.ndarray]:
    """Draw variables of these shapes from one distribution."""
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    rows = [-(-size // _ROW) for size in sizes]
    names = np.repeat([zlib.crc32("/".join(path).encode()) for path in shapes], rows)
    places = np.concatenate([np.arange(count) for count in rows])
    table = _draw_rows(jax.random.key(seed), names.astype(np.uint32), places, distribution)
    parts = np.split(np.asarray(table), np.cumsum(rows)[:-1])
    return {
        path: part.reshape(-1)[:size].reshape(shape)
        for (path, shape), part, size in zip(shapes.items(), parts, sizes, strict=True)
    }


@partial(jax.jit, static_argnames="distribution")
def _draw_rows(key: jax.Array, names: jax.Array, places: jax.Array, distribution: Any) -> jax.Array:
    """Draw [rows, `_ROW`]; each row's key is made from its variable and its place in it."""

    def draw(name: jax.Array, place: jax.Array) -> jax.Array:
        return distribution(jax.random.fold_in(jax.random.fold_in(key, name), place), (_ROW,))

    return jax.vmap(draw)(names, places)


def _by_init(model: nn.Module, seed: int, paths: list[Path]) -> dict[Path, np.ndarray]:
    def fresh() -> list[jax.Array]:
        flat = traverse_util.flatten_dict(model.init(jax.random.key(seed), _image()))
        return [flat[path] for path in paths]

    # Compiled, because XLA then skips everything that these variables do not need.
    return dict(zip(paths, jax.device_get(jax.jit(fresh)()), strict=True))


def _image() -> jax.Array:
    # The variables do not depend on the size.
    return jnp.zeros((1, 128, 128, 3), jnp.float32)
