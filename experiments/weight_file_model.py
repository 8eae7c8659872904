"""A model ready to predict from a single file of weights: published ones, or exported ones."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from bifpn_jax.data.coco_categories import COCO
from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.errors import UserError
from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.models.scaling import MODELS
from bifpn_jax.weights import load_weights
from bifpn_jax.weights.files import WeightFile, open_weights
from bifpn_jax.weights.identify import Candidate, fitting_models
from experiments import from_config
from experiments.config_fields import with_added_fields

_COCO_OUTPUTS = 90


def read_weight_file(
    source: str | Path, name: str = "", class_names: tuple[str, ...] = ()
) -> tuple[EfficientDet, dict[str, Any], LabelMap, ConfigDict]:
    """Model, variables, classes and config of a file of weights.

    Args:
        source: a file, or the name of published weights.
        name: the model that it is for; "" finds it out.
        class_names: of its outputs in their order, for a file that does not hold them; a file with
            90 outputs is taken for one of COCO's.

    Raises:
        UserError: it cannot be read, fits no model or another one, or its classes have no names.
    """
    file = open_weights(source)
    if "config" in file.metadata:
        config = with_added_fields(json.loads(file.metadata["config"]))
        label_map = LabelMap.from_json(json.loads(file.metadata["label_map"]))
    else:
        candidate = _choose(file, name)
        config = _config(file, candidate)
        label_map = _label_map(file, candidate.num_classes, class_names)
        config.model.num_classes = candidate.num_classes
    model = from_config.model(config, label_map)
    return model, load_weights(file, model), label_map, config


def _choose(file: WeightFile, name: str) -> Candidate:
    if name and name not in MODELS:
        raise UserError(f"--model={name}: there is no such model; use one of {', '.join(MODELS)}.")
    if "feature_network" not in file.scheme.parts:
        raise UserError(
            f"{file.source} is an ImageNet classifier and detects nothing; train a detector from "
            "it with --config=configs/finetune.py and --config.init_from."
        )
    fitting = fitting_models(file)
    chosen = [candidate for candidate in fitting if name in ("", candidate.name)]
    if len(chosen) == 1:
        return chosen[0]
    options = " or ".join(f"--model={candidate.name}" for candidate in fitting)
    if chosen:
        raise UserError(f"{file.source} fits more than one model: say which with {options}.")
    if fitting:
        raise UserError(f"{file.source} does not fit --model={name}; use {options}.")
    raise UserError(
        f"{file.source} fits no released model; load_weights in Python takes a model of your own."
    )


def _config(file: WeightFile, candidate: Candidate) -> ConfigDict:
    config = import_module(f"configs.{candidate.name}").get_config()
    settings = {**candidate.settings, **file.settings}
    config.model.update({key: settings[key] for key in settings})
    config.data.antialias = file.antialias
    config.init_from = str(file.source)
    return config


def _label_map(file: WeightFile, num_classes: int, names: tuple[str, ...]) -> LabelMap:
    if names:
        if len(names) != num_classes:
            raise UserError(
                f"--class_names has {len(names)} names but {file.source} has {num_classes} "
                "classes; give one for each, in the order of its outputs."
            )
        return LabelMap(tuple(range(1, num_classes + 1)), names)
    if num_classes == _COCO_OUTPUTS:
        return COCO.with_gaps(_COCO_OUTPUTS)
    if num_classes == len(COCO):
        return COCO
    raise UserError(
        f"{file.source} has {num_classes} classes and not their names; give them in the order of "
        "its outputs with --class_names=cat,dog,…"
    )
