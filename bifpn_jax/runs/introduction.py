"""The first lines that a run says: its model, its data, and what is odd about them."""

from collections.abc import Callable, Iterator
from typing import Any

from ml_collections import ConfigDict

from bifpn_jax.data.pipeline import count_crowded_images
from bifpn_jax.data.records import Source
from bifpn_jax.evaluation.detection_limit import limit_warning
from bifpn_jax.models.cost import num_parameters
from bifpn_jax.models.detector import EfficientDet, make_anchors


def introduce(
    say: Callable[[str], object],
    config: ConfigDict,
    model: EfficientDet,
    params: Any,
    data: tuple[Source, Source],
    *remarks: str,
) -> None:
    """Says all that is known before the first step.

    Args:
        say: is given each line.
        config: of the run.
        model: its model.
        params: its parameters.
        data: to train and to evaluate on.
        *remarks: lines about this run, "" for none.
    """
    for line in _lines(config, model, params, data):
        say(line)
    for line in filter(None, remarks):
        say(line)


def _lines(
    config: ConfigDict, model: EfficientDet, params: Any, data: tuple[Source, Source]
) -> Iterator[str]:
    train, evaluation = data
    anchors = len(make_anchors(model, model.image_hw))
    yield (
        f"{config.name}: {num_parameters(params):,} parameters, {anchors:,} anchors, "
        f"{len(train.label_map)} classes, {model.image_hw[0]}x{model.image_hw[1]} px"
    )
    yield f"train: {train.summary()}"
    yield f"eval:  {evaluation.summary()}"
    crowded = count_crowded_images(train, config.data.max_boxes)
    if crowded is not None and crowded[0]:
        yield (
            f"{crowded[0]} images have more than config.data.max_boxes={config.data.max_boxes} "
            f"boxes (up to {crowded[1]}); of those the largest are kept"
        )
    limit = config.eval.max_detections
    if too_few := limit_warning(evaluation, limit, "config.eval.max_detections"):
        yield too_few
