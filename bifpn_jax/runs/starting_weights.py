"""The variables that a training run starts from: random ones, published weights or the user's."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from bifpn_jax import named_parts
from bifpn_jax.data.records import Source
from bifpn_jax.errors import UserError
from bifpn_jax.inference import normalize_images
from bifpn_jax.models.detector import EfficientDet, create_model
from bifpn_jax.models.initial_values import init_variables
from bifpn_jax.named_parts import is_code, is_trusted
from bifpn_jax.recipe import building
from bifpn_jax.train.calibration import calibrate_batch_norms
from bifpn_jax.train.checkpoint_reader import has_checkpoint, restore_meta
from bifpn_jax.weights import load_weights
from bifpn_jax.weights.formats.opening import open_weights
from bifpn_jax.weights.identify import fitting_models
from bifpn_jax.weights.naming.own import model_settings

_CALIBRATION_BATCHES = 8


def with_settings_of_weights(
    config: ConfigDict,
    workdir: Path | None = None,
    say: Callable[[str], object] = print,
    *,
    trust_code: bool = False,
) -> ConfigDict:
    """Return the config with the model settings that its initial weights were trained with.

    Settings in which the config differs from the released model are kept. Nothing changes without
    `init_settings`.

    Args:
        config: config of the run.
        workdir: workdir of the run; a resumed run already has the settings and reads no weights.
        say: called with a line for every setting that changes.
        trust_code: whether code that the weights name, but the config does not, may be run.

    Raises:
        UserError: the weights cannot be read, or they name code that is not trusted.
    """
    if not (config.init_from and config.init_settings):
        return config
    if workdir is not None and has_checkpoint(workdir):
        saved = restore_meta(workdir, "latest")["config"]
        settings, antialias = model_settings(saved), saved["data"]["antialias"]
    else:
        settings, antialias = _settings_of_weights(config)
    settings = {f"model.{name}": value for name, value in settings.items()}
    settings["data.antialias"] = antialias
    released = create_model(config.model.name)
    config = config.copy_and_resolve_references()
    with config.unlocked():
        for name, theirs in settings.items():
            group, _, field = name.partition(".")
            ours = config[group].get(field)
            as_released = getattr(released, field) if group == "model" else False
            if ours == theirs or ours != as_released:
                continue
            if is_code(theirs) and not (trust_code or is_trusted(theirs)):
                raise UserError(
                    f"{config.init_from} was trained with {name}={theirs}, code in a file that is "
                    "not run without consent: read it, and if you trust it, set trust_code=True or "
                    f"config.{name}={theirs}; or leave config.init_settings False."
                )
            if is_code(theirs):
                named_parts.trust_code(theirs)
            config[group][field] = theirs
            say(f"config.{name}={theirs}, as the weights were trained with (it was {ours})")
    return config


def _settings_of_weights(config: ConfigDict) -> tuple[dict[str, Any], bool]:
    """Return attributes of the model, and antialias."""
    try:
        file = open_weights(config.init_from)
    except UserError as error:
        raise UserError(f"config.init_from={config.init_from}: {error}") from error
    settings = dict(file.settings)
    if not settings and "feature_network" in file.scheme.parts:
        fitting = [found for found in fitting_models(file) if found.name == config.model.name]
        settings = dict(fitting[0].settings) if len(fitting) == 1 else {}
    return settings, file.antialias


def initial_variables(
    config: ConfigDict, model: EfficientDet, source: Source, say: Callable[[str], object] = print
) -> dict[str, Any]:
    """Return the variables for the first step, the same on every host.

    Args:
        config: config of the run; `init_from` and `init_only` say which weights to load.
        model: the model to initialise.
        source: the training data; weights without batch statistics get them from its images.
        say: called with the report of what was loaded.

    Raises:
        UserError: the weights cannot be read or do not fit.
    """
    if not config.init_from:
        say(f"weights: none to start from (config.init_from), drawn with seed {config.seed}")
        return init_variables(model, config.seed)
    file = open_weights(config.init_from)
    variables = load_weights(
        file,
        model,
        only=config.init_only or None,
        new_classes=True,
        new_anchors=True,
        class_names=source.label_map.names if source else (),
        seed=config.seed,
        report=lambda report: say(str(report)),
    )
    if file.folded:
        say(
            "  its batch norms are folded away: statistics for training are measured on "
            f"{_CALIBRATION_BATCHES * config.train.batch_size} training images"
        )
        variables = calibrate_batch_norms(
            model.clone(axis_name=None), variables, _images(config, model, source)
        )
    return variables


def _images(config: ConfigDict, model: EfficientDet, source: Source) -> Iterator[jax.Array]:
    # Not split over hosts, because all must get the same statistics.
    batches = building.training_batches(config, model, source)
    for batch in islice(batches, _CALIBRATION_BATCHES):
        yield normalize_images(batch["image"], batch["content_hw"], model.mean_rgb, model.std_rgb)
