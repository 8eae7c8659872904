"""What the config of a run says of the detector that it trains."""

from collections.abc import Mapping
from typing import Any

from bifpn_jax.models.detector import EfficientDet, create_model
from bifpn_jax.postprocessing import PUBLISHED


def configured_model(config: Mapping[str, Any], num_classes: int, **changes: Any) -> EfficientDet:
    """The model of a config, with so many classes.

    Args:
        config: of a run, or the same as JSON.
        num_classes: K.
        **changes: attributes of `EfficientDet` that replace the config's.

    Raises:
        UserError: an attribute that does not exist, or a value that does not work.
    """
    return create_model(**{**config["model"], "num_classes": num_classes, **changes})


def configured_postprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `postprocess` in a config; the published ones where it has none."""
    evaluation = config.get("eval", {})
    return {name: evaluation.get(name, value) for name, value in PUBLISHED._asdict().items()}


def model_attributes(model: EfficientDet) -> dict[str, Any]:
    """The attributes of a model that a config has."""
    return {
        field: getattr(model, field)
        for field in EfficientDet.__dataclass_fields__
        if field not in ("parent", "name", "axis_name")
    }


def config_of(
    model: EfficientDet, *, name: str, antialias: bool, postprocessing: Mapping[str, Any]
) -> dict[str, Any]:
    """The part of a config that the functions above read, for a model that no run here trained.

    Args:
        model: the network.
        name: of the released model that it is, or comes from.
        antialias: how images are resized.
        postprocessing: arguments of `postprocess`.
    """
    return {
        "name": name,
        "model": {"name": name, **model_attributes(model)},
        "data": {"antialias": antialias},
        "eval": dict(postprocessing),
    }
