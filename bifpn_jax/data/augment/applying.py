"""The augmentations by name; finding and applying those of a recipe."""

import ast
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from bifpn_jax.data.augment.augmentation import OFFERED, Augmentation, Example, fault
from bifpn_jax.data.augment.flip import flip
from bifpn_jax.data.augment.scale_jitter import scale_jitter
from bifpn_jax.errors import UserError
from bifpn_jax.named_parts import Parts, is_code, reported

AUGMENTATIONS = Parts("augmentation", {"flip": flip, "scale_jitter": scale_jitter})

# The published ones, in order.
PUBLISHED = ("flip", "scale_jitter")

_TRIAL_HW = (480, 640)  # pixels of the image on which augmentations are tried out


class Step(NamedTuple):
    """An augmentation that is ready to be applied.

    Attributes:
        name: what messages call it.
        function: the augmentation, with its settings bound.
        asks_for: which of the offered keywords it takes.
    """

    name: str
    function: Augmentation
    asks_for: tuple[str, ...]


def find_steps(
    recipe: Sequence[str | Augmentation | Step],
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Step]:
    """Find the augmentations of a recipe, and try each on a blank image.

    Args:
        recipe: a list of keys of ``AUGMENTATIONS`` and of places of user code, ``FILE.py:NAME``,
            either with optional settings, ``NAME(probability=0.3)``; of functions; or of steps that
            this function returned.
        settings: default settings of some names; those in the recipe override them.

    Raises:
        UserError: there is no such augmentation or setting, or it does not return an example.
    """
    return [
        entry if isinstance(entry, Step) else _find_step(entry, settings or {}) for entry in recipe
    ]


def _find_step(entry: str | Augmentation, settings: Mapping[str, Mapping[str, Any]]) -> Step:
    if isinstance(entry, str):
        name, given = split_settings(entry)
        function, given = AUGMENTATIONS.find(name), {**settings.get(name, {}), **given}
    else:
        name, function, given = _name_of(entry), entry, {}
    asks_for = _asks_for(name, function, given)
    step = Step(name, partial(function, **given), asks_for)
    _try_out(step)
    return step


def split_settings(entry: str) -> tuple[str, dict[str, Any]]:
    """Take "NAME(size=16, by=0.2)" apart into the name and the settings.

    Raises:
        UserError: the text in the brackets cannot be read as settings.
    """
    found = re.fullmatch(r"(?s:((?:.+?\.py:|[\w.]+:)?\w+)\((.*)\))", entry)
    if found is None or is_code(entry):
        return entry, {}
    try:
        call = ast.parse(f"f({found[2]})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError
        return found[1], {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except (ValueError, SyntaxError):
        raise UserError(
            f"augmentation {entry!r}: its settings cannot be read; write them as in "
            f"{found[1]}(size=16, color='red')"
        ) from None


def augmented(
    example: Example,
    steps: Sequence[Step],
    rng: np.random.Generator,
    *,
    more: Callable[[], Example],
    image_hw: tuple[int, int],
    num_classes: int,
    where: str,
) -> Example:
    """Apply augmentations in order.

    Args:
        example: the image with its boxes.
        steps: the augmentations.
        rng: the source of all their random numbers.
        more: returns another example of the same data.
        image_hw: height and width of the network's frame.
        num_classes: the number of classes of the data.
        where: what messages call the image.

    Raises:
        UserError: one of them fails or does not return an example; the message names it.
    """
    offered = {"more": more, "image_hw": image_hw}
    for step in steps:
        asked = {name: offered[name] for name in step.asks_for}
        # Now, because an augmentation may change arrays in place.
        known = fault(example)
        with reported(f"augmentation {step.name}", where):
            after = step.function(example, rng, **asked)
        # Faults that the data already had are not the augmentation's.
        if (wrong := fault(after)) and wrong != known:
            raise UserError(f"augmentation {step.name}, given {where}, {wrong}; correct it there")
        if len(after.labels) and after.labels.max() >= num_classes:
            raise UserError(
                f"augmentation {step.name}, given {where}, makes the label {after.labels.max()}; "
                f"there are {num_classes} classes from 0 on; correct it there"
            )
        example = after
    return example


def _try_out(step: Step) -> None:
    boxes = np.array([[40, 60, 200, 300], [0, 0, *_TRIAL_HW]], np.float32)
    example = Example(np.zeros((*_TRIAL_HW, 3), np.uint8), boxes, np.zeros(2, np.int32))
    augmented(
        example,
        [step],
        np.random.default_rng(0),
        more=lambda: example,
        image_hw=_TRIAL_HW,
        num_classes=1,
        where="an image without content",
    )


def _asks_for(name: str, function: Any, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return which offered keywords a function takes, after checking that it takes the settings."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise UserError(
            f"augmentation {name} is {function!r}, not a function (example, rng) -> example"
        ) from None
    asks_for = tuple(keyword for keyword in OFFERED if keyword in parameters)
    own = [
        parameter.name
        for parameter in parameters.values()
        if parameter.name not in OFFERED and parameter.kind in _BY_NAME
    ][2:]
    for setting in settings:
        if setting not in own:
            has = f"it has {', '.join(own)}" if own else "it has none"
            raise UserError(f"augmentation {name} has no setting {setting!r}; {has}")
    return asks_for


_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _name_of(function: Any) -> str:
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__qualname__", type(function).__name__)
