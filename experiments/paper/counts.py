"""Parameters and multiply-adds of the models in a table; needs no training."""

import functools
import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from bifpn_jax.models.cost import forward_cost, num_parameters
from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.recipe import building

NETWORK = "feature_network"
COCO_OUTPUTS = 90  # of the published models, category id - 1


class Counts(NamedTuple):
    """Size of a model or a part of it, for one image of the model's input size."""

    parameters: int  # trainable ones
    multiply_adds: float


def model_of(config: ConfigDict | Mapping[str, Any], num_classes: int) -> EfficientDet:
    """Return the model of a config, or of its JSON form, with this number of classes."""
    config = ConfigDict(dict(config)).copy_and_resolve_references()
    with config.unlocked():
        config.model.num_classes = config.model.num_classes or num_classes
    return building.model(config, None)


def released_config(name: str, dtype: str = "float32") -> ConfigDict:
    """Return the config of a released model, "d0", that computes in a dtype."""
    config = importlib.import_module(f"configs.{name}").get_config()
    config.model.dtype = dtype
    return config


def released_model(name: str) -> EfficientDet:
    """Return a released model with the outputs of the published COCO models."""
    return model_of(released_config(name), COCO_OUTPUTS)


def study_configs(study: str) -> dict[str, ConfigDict]:
    """Return row -> config of a study in configs/ablations at the paper's scale."""
    module = importlib.import_module(f"configs.ablations.{study}")
    configs = {}
    for row, fields in module.sweep().items():
        configs[row] = module.get_config()
        configs[row].update_from_flattened_dict(fields)
    return configs


@functools.cache
def count_model(model: EfficientDet) -> Counts:
    """Return the counts of a whole model."""
    parameters = num_parameters(_trace(model)[0])
    return Counts(parameters, forward_cost(model, model.image_hw).multiply_adds)


@functools.cache
def count_network(model: EfficientDet) -> Counts:
    """Return the counts of a model's feature network, from the backbone's features to the heads.

    This includes the projections of the backbone's features and the extra coarse levels.
    """
    params, network = _trace(model)
    multiply_adds = forward_cost(network, model.image_hw).multiply_adds
    return Counts(num_parameters(params[NETWORK]), multiply_adds)


class _Network(nn.Module):
    """A feature network on features of fixed shapes, independent of the image."""

    network: nn.Module
    shapes: tuple[tuple[int, tuple[int, ...]], ...]  # level and shape

    def __call__(self, _: jax.Array) -> Any:
        return self.network({level: jnp.zeros(shape) for level, shape in self.shapes})


@functools.cache
def _trace(model: EfficientDet) -> tuple[Any, _Network]:
    """Return the shapes of a model's parameters, and its feature network by itself."""
    found = {}

    def keep_network(call: Any, arguments: Any, settings: Any, context: Any) -> Any:
        if context.module.name == NETWORK and context.method_name == "__call__":
            found["network"] = context.module.clone(parent=None, name=None)
            found["shapes"] = tuple((level, x.shape) for level, x in arguments[0].items())
        return call(*arguments, **settings)

    image = jax.ShapeDtypeStruct((1, *model.image_hw, 3), np.float32)
    with nn.intercept_methods(keep_network):
        variables = jax.eval_shape(model.init, jax.random.key(0), image)
    return variables["params"], _Network(**found)
