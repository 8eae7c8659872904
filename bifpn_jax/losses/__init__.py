"""Losses, one file each, and their sum."""

from bifpn_jax.losses.detection import BOX_LOSSES, CLASS_LOSSES, LossSettings, detection_loss
from bifpn_jax.losses.focal import sigmoid_focal
from bifpn_jax.losses.huber import huber

__all__ = [
    "BOX_LOSSES",
    "CLASS_LOSSES",
    "LossSettings",
    "detection_loss",
    "huber",
    "sigmoid_focal",
]
