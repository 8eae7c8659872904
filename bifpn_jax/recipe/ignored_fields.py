"""Fields that a config sets and no part reads: a part gets only those that it has arguments for."""

from typing import Any

from ml_collections import ConfigDict

from bifpn_jax.models.scaling import MODELS
from bifpn_jax.named_parts import is_code, load_code, takes
from bifpn_jax.recipe import base
from bifpn_jax.recipe.field_descriptions import FIELDS
from bifpn_jax.recipe.fields import flat_fields

# What the fields are to a part that has them as arguments. Of two parts one is enough.
_LOSSES = ("loss.class_loss", "loss.box_loss")
_ARGUMENTS = (
    ("model.survival_prob", "survival_prob", ("model.backbone",)),
    ("model.expanded_features", "expanded_features", ("model.backbone",)),
    ("model.backbone_padding", "padding", ("model.backbone",)),
    ("model.backbone_batch_norm_epsilon", "norm", ("model.backbone",)),
    ("model.backbone_batch_norm_epsilon", "epsilon", ("model.norm",)),
    ("model.batch_norm_momentum", "momentum", ("model.norm",)),
    ("model.batch_norm_group", "group", ("model.norm",)),
    ("model.network_repeats", "repeats", ("model.feature_network",)),
    ("model.fusion", "fusion", ("model.feature_network",)),
    ("model.separable", "separable", ("model.feature_network",)),
    ("model.upsampling", "upsampling", ("model.feature_network",)),
    ("model.downsampling", "downsampling", ("model.feature_network",)),
    ("schedule.offset_cosine", "offset_cosine", ("schedule.decay",)),
    ("optimizer.momentum", "momentum", ("optimizer.name",)),
    ("optimizer.weight_decay", "decay", ("optimizer.name",)),
    ("optimizer.clip_norm", "clip", ("optimizer.name",)),
    ("optimizer.clip_each_norm", "clip", ("optimizer.name",)),
    ("loss.alpha", "alpha", _LOSSES),
    ("loss.gamma", "gamma", _LOSSES),
    ("loss.label_smoothing", "label_smoothing", _LOSSES),
    ("loss.delta", "delta", _LOSSES),
)


def ignored_fields(config: ConfigDict) -> str:
    """One line about the fields that no part reads, "" if there are none.

    They are those with another value than in the recipe of the config's model: nobody has asked for
    the others.
    """
    name = config.model.name
    fields = dict(flat_fields(config))
    usual = dict(flat_fields(base.get_config(name if name in MODELS else "d0")))
    told = {}
    for field, argument, parts in _ARGUMENTS:
        read = any(_takes(part, fields[part], argument) for part in parts)
        if not read and fields[field] != usual[field]:
            of = " or ".join(f"{part}={fields[part]}" for part in parts)
            told.setdefault(field, f"config.{field}={fields[field]} (of {of})")
    return f"not read by any of the chosen parts: {', '.join(told.values())}" if told else ""


def _takes(part: str, value: Any, argument: str) -> bool:
    """Whether the part that a field names has an argument."""
    if part == "model.feature_network":
        # Nodes are the project's own kind of network, which takes them all.
        network = load_code(value) if is_code(value) else value
        return not isinstance(network, type) or takes(network, argument)
    return takes(FIELDS[part].parts.find(value), argument)
