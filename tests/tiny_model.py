"""The smallest detector that trains like the others: two levels, three classes."""

from typing import Any

from bifpn_jax.models.detector import EfficientDet, create_model

CLASSES = 3


def tiny_model(**changes: Any) -> EfficientDet:
    """A D0 with a nano backbone, narrow, with levels 5 and 6; `changes` are fields of its own."""
    fields = {
        "num_classes": CLASSES,
        "backbone": "nano",
        "width": 16,
        "network_repeats": 1,
        "head_repeats": 1,
        "min_level": 5,
        "max_level": 6,
        "anchor_scale": 1.0,
        "survival_prob": 0.8,
    }
    return create_model("d0", **{**fields, **changes})
