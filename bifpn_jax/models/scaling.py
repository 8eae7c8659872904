"""Compound scaling (paper section 4) and the models that were actually released.

The rule gives width, depth and resolution from one number phi. The released models follow it only
roughly: `MODELS` has their exact settings, and `deviations` lists the differences.
"""

import difflib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from bifpn_jax.errors import UserError

# The settings that can be scaled alone.
FACTORS = ("backbone", "image_size", "width", "network_repeats", "head_repeats")

IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
LITE_MEAN = (127.0, 127.0, 127.0)
LITE_STD = (128.0, 128.0, 128.0)


def check_normalization(mean_rgb: Sequence[float], std_rgb: Sequence[float]) -> None:
    """Raise a UserError for values that cannot be mean and deviation of pixels in 0..255."""
    for key, value, least in (("mean_rgb", mean_rgb, -math.inf), ("std_rgb", std_rgb, 0.0)):
        if len(value) != 3 or not all(
            type(v) in (int, float) and least < v < math.inf for v in value
        ):
            above = " above 0" if least == 0.0 else ""
            raise UserError(f"model setting {key}={value!r} must be three numbers{above}.")
    # A deviation of exactly 1 means no scaling.
    if max(std_rgb) < 1:
        raise UserError(
            f"model setting std_rgb={std_rgb!r} looks like that of pixels in 0..1, they are in "
            "0..255 here: multiply mean_rgb and std_rgb by 255."
        )


class Rule(NamedTuple):
    """The values of the paper's formulas for one phi."""

    width: float
    network_repeats: int
    head_repeats: int
    image_size: int


def compound_scaling(phi: float) -> Rule:
    """Equations 1-3 and Table 1.

    W = 64 * 1.35^phi, D_bifpn = 3 + phi, D_head = 3 + floor(phi / 3), R = 512 + 128 * phi.
    """
    return Rule(
        width=64 * 1.35**phi,
        network_repeats=3 + math.floor(phi),
        head_repeats=3 + math.floor(phi / 3),
        image_size=512 + int(128 * phi),
    )


def scaled_settings(phi: float, **factors: float) -> dict[str, Any]:
    """Return settings of `EfficientDet` for any phi, also below 0, by the paper's formulas.

    The width is rounded to a multiple of 8 and the size to a multiple of 32; the minimum is one
    layer, 8 channels and 64 pixels. The backbone is B0-B7, below phi = -0.5 "nano", half of B0.

    Args:
        phi: scales everything that `factors` does not name.
        **factors: a separate phi for "backbone", "image_size", "width", "network_repeats" or
            "head_repeats", to scale one factor alone as in Figure 6.

    Raises:
        UserError: an unknown factor, or a phi outside -8 .. 8.
    """
    for name, value in {"phi": phi, **factors}.items():
        if name not in ("phi", *FACTORS):
            known = difflib.get_close_matches(name, ("phi", *FACTORS), len(FACTORS) + 1, 0.0)
            raise UserError(f"scaling: there is no factor {name!r}; use {', '.join(known)}.")
        if not -8 <= value <= 8:
            raise UserError(f"scaling: {name}={value:g} is out of range; phi goes from -8 to 8.")
    rules = {name: compound_scaling(factors.get(name, phi)) for name in FACTORS}
    backbone_phi = factors.get("backbone", phi)
    side = max(64, round(rules["image_size"].image_size / 32) * 32)
    return {
        "backbone": "nano" if backbone_phi < -0.5 else f"b{min(7, math.floor(backbone_phi + 0.5))}",
        "image_hw": (side, side),
        "width": max(8, round(rules["width"].width / 8) * 8),
        "network_repeats": max(1, rules["network_repeats"].network_repeats),
        "head_repeats": max(1, rules["head_repeats"].head_repeats),
    }


class ReleasedModel(NamedTuple):
    """Settings of a released model, named as in `EfficientDet`.

    The exception is `image_size`, the side of the square input, which is the pair `image_hw` there.
    """

    phi: int | None  # None for Lite, which was not made by the rule
    backbone: str
    image_size: int
    width: int
    network_repeats: int
    head_repeats: int
    max_level: int = 7
    anchor_scale: float = 4.0
    fusion: str = "fast"
    activation: str = "swish"
    survival_prob: float = 0.8
    mean_rgb: tuple[float, float, float] = IMAGENET_MEAN
    std_rgb: tuple[float, float, float] = IMAGENET_STD


def _lite(*sizes: int | str, anchor_scale: float = 3.0) -> ReleasedModel:
    return ReleasedModel(
        None,
        *sizes,
        anchor_scale=anchor_scale,
        fusion="sum",
        activation="relu6",
        mean_rgb=LITE_MEAN,
        std_rgb=LITE_STD,
    )


# phi, backbone, image size, width, cells, head repeats. D0 trains without stochastic depth; D6 and
# up add features without weights, "for training stability".
MODELS = {
    "d0": ReleasedModel(0, "b0", 512, 64, 3, 3, survival_prob=1.0),
    "d1": ReleasedModel(1, "b1", 640, 88, 4, 3),
    "d2": ReleasedModel(2, "b2", 768, 112, 5, 3),
    "d3": ReleasedModel(3, "b3", 896, 160, 6, 4),
    "d4": ReleasedModel(4, "b4", 1024, 224, 7, 4),
    "d5": ReleasedModel(5, "b5", 1280, 288, 7, 4),
    "d6": ReleasedModel(6, "b6", 1280, 384, 8, 5, fusion="sum"),
    "d7": ReleasedModel(7, "b6", 1536, 384, 8, 5, fusion="sum", anchor_scale=5.0),
    "d7x": ReleasedModel(7, "b7", 1536, 384, 8, 5, fusion="sum", max_level=8),
    "lite0": _lite("lite0", 320, 64, 3, 3),
    "lite1": _lite("lite1", 384, 88, 4, 3),
    "lite2": _lite("lite2", 448, 112, 5, 3),
    "lite3": _lite("lite3", 512, 160, 6, 4, anchor_scale=4.0),
    "lite3x": _lite("lite3", 640, 200, 6, 4),
    "lite4": _lite("lite4", 640, 224, 7, 4, anchor_scale=4.0),
}


def deviations(name: str) -> dict[str, str]:
    """Return where a released model differs from the rule: {field: "used (rule: value)"}.

    Empty for the Lite models, which have no phi.
    """
    model = MODELS[name]
    if model.phi is None:
        return {}
    rule = compound_scaling(model.phi)
    return {
        field: f"{getattr(model, field)} (rule: {value:g})"
        for field, value in rule._asdict().items()
        if getattr(model, field) != value
    }
