"""Checks of a detector's settings before anything is computed."""

from typing import Any

import flax.linen as nn

from bifpn_jax.errors import UserError
from bifpn_jax.models.backbones import BACKBONES
from bifpn_jax.models.feature_network import DOWNSAMPLINGS, UPSAMPLINGS
from bifpn_jax.models.fusion import check_fusion
from bifpn_jax.models.layers import ACTIVATIONS, NORMS
from bifpn_jax.models.networks import network_graph
from bifpn_jax.models.scaling import check_normalization
from bifpn_jax.named_parts import unknown
from bifpn_jax.ops.convolution import PADDINGS

DTYPES = ("float32", "bfloat16")
# The parts that `remat` may name.
PARTS = ("backbone", "feature_network", "heads")


_RANGES = (
    ("batch_norm_momentum", lambda value: 0.0 <= value < 1.0, "[0, 1)"),
    ("backbone_batch_norm_epsilon", lambda value: 0.0 < value < 1.0, "(0, 1)"),
    ("survival_prob", lambda value: 0.0 < value <= 1.0, "(0, 1]"),
)


def check_model(model: nn.Module) -> None:
    """Raise a UserError unless all settings of an `EfficientDet` exist and work together."""
    _check_names(model)
    _check_numbers(model)
    _check_levels(model)
    network = model.feature_network
    if isinstance(network, type) and not issubclass(network, nn.Module):
        raise UserError(f"feature_network={network.__name__} must be a class of linen modules.")
    network_graph(network, model.min_level, model.max_level)


def check_choice(what: str, value: Any, choices: Any) -> None:
    """Raise a UserError with the nearest choice unless the value is one of the choices."""
    if value not in choices:
        raise unknown(what, value, choices)


def _check_names(model: nn.Module) -> None:
    BACKBONES.find(model.backbone)
    NORMS.find(model.norm)
    check_fusion(model.fusion)
    check_choice("upsampling", model.upsampling, UPSAMPLINGS)
    check_choice("downsampling", model.downsampling, DOWNSAMPLINGS)
    check_choice("padding", model.padding, PADDINGS)
    check_choice("backbone_padding", model.backbone_padding or model.padding, PADDINGS)
    ACTIVATIONS.find(model.activation)
    check_choice("dtype", model.dtype, DTYPES)
    for part in model.remat.split(",") if model.remat else ():
        check_choice("part in remat", part, PARTS)


def _check_numbers(model: nn.Module) -> None:
    def whole_number(key: str, least: int, meaning: str) -> None:
        value = getattr(model, key)
        if type(value) is not int or value < least:
            raise UserError(f"model setting {key}={value!r} must be a whole number{meaning}.")

    for key in ("num_classes", "width", "network_repeats", "head_repeats", "num_scales"):
        whole_number(key, 1, ", at least 1")
    whole_number("batch_norm_group", 0, ", 0 for all devices")
    for key in ("conv_bias", "expanded_features", "separable", "separable_heads"):
        if not isinstance(getattr(model, key), bool):
            raise UserError(f"model setting {key}={getattr(model, key)!r} must be True or False.")
    check_normalization(model.mean_rgb, model.std_rgb)
    for key, allows, limits in _RANGES:
        if not allows(value := getattr(model, key)):
            raise UserError(f"model setting {key}={value} must be in {limits}.")


def _check_levels(model: nn.Module) -> None:
    if model.min_level not in (3, 4, 5) or model.max_level not in range(5, 11):
        raise UserError(
            f"model levels {model.min_level}-{model.max_level} do not work: min_level must be 3-5 "
            "and max_level 5-10."
        )
    if model.min_level == model.max_level:
        raise UserError(
            f"model levels {model.min_level}-{model.max_level} do not work: a feature network "
            "needs two levels or more."
        )
