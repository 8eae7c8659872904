"""The variables that a training run starts from: fresh ones, or published or own weights."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import jax
from ml_collections import ConfigDict

from bifpn_jax.data.records import Source
from bifpn_jax.inference import normalize_images
from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.models.initial_values import init_variables
from bifpn_jax.train.calibration import calibrate_batch_norms
from bifpn_jax.weights import load_weights
from bifpn_jax.weights.files import open_weights
from experiments import from_config

_CALIBRATION_BATCHES = 8


def initial_variables(
    config: ConfigDict, model: EfficientDet, source: Source, say: Callable[[str], object] = print
) -> dict[str, Any]:
    """Variables for the first step, the same on every host.

    Args:
        config: of the run; `init_from` and `init_only` say which weights to take.
        model: the model to fill.
        source: the training data; weights without batch statistics get them from its images.
        say: is given the report of what was loaded.

    Raises:
        UserError: the weights cannot be read or do not fit.
    """
    if not config.init_from:
        return init_variables(model, config.seed)
    file = open_weights(config.init_from)
    variables = load_weights(
        file,
        model,
        only=config.init_only or None,
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
    # Not split over hosts: all must come to the same statistics.
    batches = from_config.training_batches(config, model, source)
    for batch in islice(batches, _CALIBRATION_BATCHES):
        yield normalize_images(batch["image"], batch["content_hw"], model.mean_rgb, model.std_rgb)
