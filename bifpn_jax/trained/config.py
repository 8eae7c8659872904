"""The settings of the trained detector in the config of a run."""

from collections.abc import Mapping
from typing import Any

from bifpn_jax.models.detector import EfficientDet, create_model
from bifpn_jax.postprocessing import PUBLISHED


def configured_model(config: Mapping[str, Any], num_classes: int, **changes: Any) -> EfficientDet:
    """Return the model of a config, with the given number of classes.

    Args:
        config: config of a run, or its JSON form.
        num_classes: K.
        **changes: attributes of `EfficientDet` that replace the config's.

    Raises:
        UserError: an attribute does not exist, or a value does not work.
    """
    return create_model(**{**config["model"], "num_classes": num_classes, **changes})


def configured_postprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `postprocess` in a config, or the published ones if it has none."""
    evaluation = config.get("eval", {})
    return {name: evaluation.get(name, value) for name, value in PUBLISHED._asdict().items()}


def model_attributes(model: EfficientDet) -> dict[str, Any]:
    """Return the attributes of a model that are config fields."""
    return {
        field: getattr(model, field)
        for field in EfficientDet.__dataclass_fields__
        if field not in ("parent", "name", "axis_name")
    }


def config_of(
    model: EfficientDet, *, name: str, antialias: bool, postprocessing: Mapping[str, Any]
) -> dict[str, Any]:
    """Make the config fields that the functions above read, for a model without a training run.

    Args:
        model: the network.
        name: name of the released model that it is, or is derived from.
        antialias: how images are resized.
        postprocessing: arguments of `postprocess`.
    """
    return {
        "name": name,
        "model": {"name": name, **model_attributes(model)},
        "data": {"antialias": antialias},
        "eval": dict(postprocessing),
    }
