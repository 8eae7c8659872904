"""Loads a trained detector from a workdir, a weights file, or a published name."""

import difflib
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flax import traverse_util

from bifpn_jax import named_parts
from bifpn_jax.data.coco.coco_categories import COCO
from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.errors import UserError
from bifpn_jax.models.detector import EfficientDet, create_model
from bifpn_jax.models.scaling import MODELS
from bifpn_jax.named_parts import code_names
from bifpn_jax.postprocessing import check_postprocessing, postprocess
from bifpn_jax.trained.config import (
    config_of,
    configured_model,
    configured_postprocessing,
    model_attributes,
)
from bifpn_jax.trained.detector import SCORE_THRESHOLD, Detector
from bifpn_jax.weights import load_weights
from bifpn_jax.weights.formats.opening import WeightFile, open_weights
from bifpn_jax.weights.identify import Candidate, fitting_models
from bifpn_jax.weights.matching_names import variable_shapes
from bifpn_jax.weights.naming.own import not_said, saved_config

_COCO_OUTPUTS = 90
# Keywords of `postprocess` that a detector accepts; its score threshold has a separate name.
_POSTPROCESSING = frozenset(
    name
    for name, parameter in inspect.signature(postprocess).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
) - {"score_threshold"}

# Attributes on which no shape of a variable depends.
_SHAPELESS = frozenset(("image_hw", "mean_rgb", "std_rgb", "anchor_scale", "dtype"))


def load_detector(
    source: str | Path,
    model: str | EfficientDet = "",
    *,
    step: int | str | None = None,
    ema: bool = True,
    class_names: Sequence[str] = (),
    antialias: bool | None = None,
    score_threshold: float | None = SCORE_THRESHOLD,
    trust_code: bool = False,
    **settings: Any,
) -> Detector:
    """Load a detector that works as it did when it was trained or published.

    Model, classes, input size, normalisation, anchors, resizing and post-processing come from the
    source. Arguments override them.

    Args:
        source: the workdir of a training run, a weights file, or the name of published weights.
        model: name of the expected model, such as "d0", needed if the weights fit several; or your
            own model that the weights fit.
        step: for a workdir, a step, "latest" or "best"; None for the best if there is one, else
            the latest.
        ema: for a workdir, whether to take the averaged weights, or the raw ones.
        class_names: a name per class, in the order of the outputs; needed if the source does not
            state them and the number of classes is not that of COCO.
        antialias: how images are resized, see `data.augment.placing.resize`.
        score_threshold: minimum score of the detections for an image; None for all that
            post-processing keeps.
        trust_code: whether the code in files that the source's config names as parts, as
            `FILE.py:NAME`, may be run.
        **settings: attributes of `EfficientDet`, such as `image_hw`, and arguments of
            `postprocess`, such as `nms_method`, `iou_threshold`, `sigma`, `max_detections`.

    Raises:
        UserError: the source cannot be read or has another model than expected, there is no such
            step or setting, or the classes have no names.
    """
    attributes, postprocessing = _split(settings)
    check_postprocessing(**postprocessing)
    if score_threshold is not None and not 0 <= score_threshold <= 1:
        raise UserError(f"score_threshold={score_threshold!r} must be between 0 and 1.")
    file = open_weights(source, step=step, ema=ema)
    if isinstance(model, EfficientDet):
        detector = _of_own_model(file, model, class_names)
    elif "config" in file.metadata:
        detector = _of_run(file, model, trust_code)
    else:
        detector = _published(file, model, class_names)
    return Detector(
        model=_changed(detector, attributes),
        variables=detector.variables,
        label_map=_named(detector, class_names),
        antialias=detector.antialias if antialias is None else antialias,
        postprocessing={**detector.postprocessing, **postprocessing},
        score_threshold=score_threshold,
        source=detector.source,
        step=file.step,
        config=detector.config,
    )


def _of_run(file: WeightFile, name: str, trust_code: bool) -> Detector:
    """Return the detector of a run of this project, from its workdir or an exported file."""
    config = saved_config(file.source, file.metadata)
    if trust_code:
        named_parts.trust_all(config)
    for setting, place in code_names(config["model"]):
        if not named_parts.is_trusted(place):
            raise UserError(
                f"{file.source} has a model with {setting}={place}, code in a file that is not run "
                "without consent: read it, and if you trust it, set trust_code=True."
            )
    try:
        label_map = LabelMap.from_json(json.loads(file.metadata["label_map"]))
        model = configured_model(config, len(label_map))
        names = (config["model"]["name"], config.get("name", ""))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise not_said(file.source, f"{type(error).__name__}: {error}") from error
    stated = config["model"].get("num_classes", 0)
    if stated not in (0, len(label_map)):
        raise not_said(file.source, f"num_classes={stated}, but it names {len(label_map)} classes")
    if name and name not in names:
        raise UserError(
            f"{file.source} holds a {names[0]}, not a {name}: use model={names[0]}, or leave it "
            "out."
        )
    if file.step is None:  # a file may be anybody's
        variables = load_weights(file, model, report=None)
    else:
        variables = traverse_util.unflatten_dict(dict(file.entries), sep="/")
    return Detector(
        model,
        variables,
        label_map,
        antialias=file.antialias,
        postprocessing=configured_postprocessing(config),
        source=f"{file.source} ({file.label})",
        config=config,
    )


def _published(file: WeightFile, name: str, class_names: Sequence[str]) -> Detector:
    candidate = _choose(file, name)
    settings = {**candidate.settings, **file.settings}
    model = create_model(candidate.name, num_classes=candidate.num_classes, **settings)
    label_map = _label_map(file, candidate.num_classes, class_names)
    return _without_run(file, model, candidate.name, label_map)


def _of_own_model(file: WeightFile, model: EfficientDet, class_names: Sequence[str]) -> Detector:
    if "label_map" in file.metadata:
        label_map = LabelMap.from_json(json.loads(file.metadata["label_map"]))
    else:
        label_map = _label_map(file, model.num_classes, class_names)
    return _without_run(file, model, "d0", label_map)


def _without_run(file: WeightFile, model: EfficientDet, name: str, label_map: LabelMap) -> Detector:
    # A custom model with the weights of a run still gets the post-processing of that run.
    run = saved_config(file.source, file.metadata) if "config" in file.metadata else {}
    postprocessing = configured_postprocessing(run)
    return Detector(
        model,
        load_weights(file, model, report=None),
        label_map,
        antialias=file.antialias,
        postprocessing=postprocessing,
        source=f"{file.source} ({file.label})",
        config=config_of(model, name=name, antialias=file.antialias, postprocessing=postprocessing),
    )


def _choose(file: WeightFile, name: str) -> Candidate:
    if name and name not in MODELS:
        raise UserError(f"model={name}: there is no such model; use one of {', '.join(MODELS)}.")
    if "feature_network" not in file.scheme.parts:
        raise UserError(
            f"{file.source} is an ImageNet classifier and detects nothing; train a detector from "
            "it with configs/finetune.py:MODEL,backbone and config.init_from."
        )
    fitting = fitting_models(file)
    chosen = [candidate for candidate in fitting if name in ("", candidate.name)]
    if len(chosen) == 1:
        return chosen[0]
    options = " or ".join(f"model={candidate.name}" for candidate in fitting)
    if chosen:
        raise UserError(f"{file.source} fits more than one model: say which with {options}.")
    if fitting:
        raise UserError(f"{file.source} does not fit model={name}; use {options}.")
    raise UserError(
        f"{file.source} fits no released model; load_detector in Python takes a model of your own."
    )


def _label_map(file: WeightFile, num_classes: int, names: Sequence[str]) -> LabelMap:
    if names:
        _check_count(file.source, num_classes, names)
        return LabelMap(tuple(range(1, num_classes + 1)), tuple(names))
    if num_classes == _COCO_OUTPUTS:
        return COCO.with_gaps(_COCO_OUTPUTS)
    if num_classes == len(COCO):
        return COCO
    raise UserError(
        f"{file.source} has {num_classes} classes and not their names; give them in the order of "
        "its outputs with class_names=cat,dog,…"
    )


def _named(detector: Detector, names: Sequence[str]) -> LabelMap:
    if not names:
        return detector.label_map
    _check_count(detector.source, len(detector.label_map), names)
    return LabelMap(detector.label_map.category_ids, tuple(names))


def _check_count(source: str, num_classes: int, names: Sequence[str]) -> None:
    if len(names) != num_classes:
        raise UserError(
            f"class_names has {len(names)} names but {source} has {num_classes} classes; give one "
            "for each, in the order of its outputs."
        )


def _split(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split settings into attributes of the model and arguments of `postprocess`."""
    attributes = EfficientDet.__dataclass_fields__.keys() - {"parent", "name", "num_classes"}
    for name in settings:
        if name not in attributes | _POSTPROCESSING:
            known = sorted(attributes | _POSTPROCESSING)
            near = difflib.get_close_matches(name, known, n=1)
            near = near or [setting for setting in known if name in setting][:1]
            hint = f"did you mean {near[0]}?" if near else "see bifpn_jax.load_detector."
            raise UserError(f"a detector has no setting {name!r}; {hint}")
    postprocessing = {name: settings[name] for name in settings if name in _POSTPROCESSING}
    return {k: settings[k] for k in settings if k not in postprocessing}, postprocessing


def _changed(detector: Detector, attributes: dict[str, Any]) -> EfficientDet:
    """Return the model with other attributes, which are checked as for any model."""
    if not attributes:
        return detector.model
    model = create_model(**{**model_attributes(detector.model), **attributes})
    if attributes.keys() - _SHAPELESS:
        there = traverse_util.flatten_dict(detector.variables)
        shapes = variable_shapes(model)
        if shapes != {path: value.shape for path, value in there.items()}:
            changed = ", ".join(f"{name}={value!r}" for name, value in attributes.items())
            raise UserError(f"{detector.source}: its weights do not fit a model with {changed}.")
    return model
