"""Compound scaling against scaling a single factor (paper Figure 6).

    python -m experiments.sweep --config=configs/ablations/scaling.py --workdir=DIR
    python -m experiments.sweep --config=configs/ablations/scaling.py:shapes --workdir=DIR

From one base, three steps in each of four single factors, and three in all factors together. The
steps of single factors are large, so that all curves cover about the same range of operations.
"""

from typing import Any

from ml_collections import ConfigDict

from bifpn_jax.models.scaling import MODELS
from bifpn_jax.recipe import study

_PAPER_STEPS = {
    "image_size": (640, 896, 1152),
    "width": (96, 160, 240),
    "network_repeats": (6, 12, 18),
    "head_repeats": (6, 12, 18),
}
_SMALL_STEPS = {
    "image_size": (80, 96, 112),
    "width": (80, 112, 144),
    "network_repeats": (4, 8, 12),
    "head_repeats": (4, 8, 12),
}
_SMALL_COMPOUND = ((64, 64, 2, 2), (80, 64, 2, 2), (96, 80, 3, 3))


def get_config(arg: str | None = None) -> ConfigDict:
    """Return D0, or at the small scale one cell, 48 channels; see `bifpn_jax.recipe.study`."""
    config = study.get_config("scaling", "d0", arg)
    if study.is_small(arg):
        config.model.update(
            {"image_hw": (64, 64), "width": 48, "network_repeats": 1, "head_repeats": 1}
        )
    return config


def sweep(arg: str | None = None) -> study.Rows:
    """Return the base, and rows FACTOR_STEP; compound_1 is D1 at the paper's scale."""
    rows: study.Rows = {"base": {}}
    single = _SMALL_STEPS if study.is_small(arg) else _PAPER_STEPS
    for factor, values in single.items():
        for step, value in enumerate(values, 1):
            rows[f"{factor}_{step}"] = _fields(**{factor: value})
    for step in (1, 2, 3):
        rows[f"compound_{step}"] = _small(step) if study.is_small(arg) else _released(step)
    return rows


def _fields(**settings: Any) -> dict[str, Any]:
    size = settings.pop("image_size", None)
    sides = {} if size is None else {"model.image_hw": (size, size)}
    return sides | {f"model.{name}": value for name, value in settings.items()}


def _small(step: int) -> dict[str, Any]:
    names = ("image_size", "width", "network_repeats", "head_repeats")
    return _fields(**dict(zip(names, _SMALL_COMPOUND[step - 1], strict=True)))


def _released(step: int) -> dict[str, Any]:
    model = MODELS[f"d{step}"]
    names = ("backbone", "image_size", "width", "network_repeats", "head_repeats", "survival_prob")
    return _fields(**{name: getattr(model, name) for name in names})
