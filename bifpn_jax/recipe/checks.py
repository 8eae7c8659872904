"""Checks of a config before data is opened or devices are touched, and against a checkpoint's."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from bifpn_jax.data.sources.opening import reads_files
from bifpn_jax.errors import UserError
from bifpn_jax.evaluation.own_metrics import find_metric
from bifpn_jax.models.detector import create_model, make_anchors
from bifpn_jax.named_parts import code_names, trust_code
from bifpn_jax.recipe.augmenting import augmentation_names, augmentation_steps
from bifpn_jax.recipe.best_metric import check_best_metric
from bifpn_jax.recipe.field_descriptions import FIELDS, field_of
from bifpn_jax.recipe.fields import ADDED_FIELDS, flat_fields

# The fields that a source of the user's files reads.
_OWN_FILES = tuple(
    f"data.{split}_{what}" for split in ("train", "eval") for what in ("images", "annotations")
)

_EXPRESSIONS = ("optimizer.freeze", "init_only")  # regular ones

# What a resumed run may change: its length, its reporting, and what it recomputes.
_FREE_TO_CHANGE = (
    "name",
    "study",
    "train.epochs",
    "train.steps",
    "train.nonfinite",
    "eval.",
    "checkpoint.",
    "log.",
    "scaling.",
    "model.remat",
    "data.num_threads",
    "data.data_dir",
    "data.eval_",
    "data.train_images",
    "data.train_annotations",
    # Batches differ only where a bad image is read; the skipped images are compared separately.
    "data.bad_images",
)


def check_config(config: ConfigDict) -> None:
    """Raise a UserError for the first field out of range, or an unknown model."""
    fields = _flat(config)
    for name, value in fields.items():
        if not all(map(math.isfinite, _floats(value))):
            _refuse(name, value, "it must be finite")
    for name, value in fields.items():
        field = field_of(name)
        # The model's choices are checked by `create_model`, which suggests the closest.
        if field.choices and not name.startswith("model.") and value not in field.choices:
            _refuse(name, value, f"use {' or '.join(field.choices)}")
        if isinstance(value, int | float) and not field.allows(value):
            _refuse(name, value, f"it must be {field.limits}")
    for name in _EXPRESSIONS:
        try:
            re.compile(fields[name])
        except re.error as error:
            _refuse(name, fields[name], f"it is not a regular expression, {error}")
    if fields["init_only"] and not fields["init_from"]:
        _refuse("init_only", fields["init_only"], "it needs weights, config.init_from=NAME")
    check_best_metric(config)
    image_hw = fields["model.image_hw"]
    sides = [side for side in image_hw if isinstance(side, int) and 32 <= side <= 8192]
    if len(image_hw) != 2 or len(sides) != 2:
        _refuse("model.image_hw", image_hw, "give height and width, 32 to 8192 pixels each")
    jitter = fields["augment.jitter"]
    numbers = all(isinstance(scale, int | float) for scale in jitter)
    if len(jitter) != 2 or not numbers or not 0 < jitter[0] <= jitter[1] <= 10:
        _refuse("augment.jitter", jitter, "give the lowest and the highest scale, e.g. (0.5, 1.5)")
    for name in _OWN_FILES:
        if fields[name] and not reads_files(fields["data.source"]):
            raise UserError(
                f"config.{name}={fields[name]!r} would not be read by "
                f"config.data.source={fields['data.source']}: set config.data.source=coco_json."
            )
    if not all(isinstance(entry, str) for entry in fields["augment.recipe"]):
        _refuse("augment.recipe", fields["augment.recipe"], "give names, e.g. ('flip', 'a.py:b')")
    # Running a config means trusting the code that it names, unlike code named by other weights.
    lists = [*augmentation_names(config), *fields["eval.metrics"]]
    for _, place in code_names({**fields, **{name: name for name in lists}}):
        trust_code(place)
    for name, field in FIELDS.items():
        if field.parts is not None:
            field.parts.find(fields[name])
    augmentation_steps(config)  # for what it refuses
    for metric in fields["eval.metrics"]:
        find_metric(metric)
    model = create_model(**{**config.model, "num_classes": config.model.num_classes or 1})
    make_anchors(model, (32, 32))  # for what it refuses


def check_same_run(meta: Mapping[str, Any], saved: Mapping[str, Any], workdir: object) -> None:
    """Raise a UserError if a resumed run has other fields, images or classes than before.

    Args:
        meta: config, label map, training data and ids of the skipped images of the run that is
            starting, as JSON.
        saved: the same from the checkpoint.
        workdir: what the message calls the run.
    """
    new, old = (ADDED_FIELDS | _flat(run["config"]) for run in (meta, saved))
    changed = [
        f"config.{name}={new.get(name)!r} (it was {old.get(name)!r})"
        for name in sorted({*new, *old})
        if new.get(name) != old.get(name) and not name.startswith(_FREE_TO_CHANGE)
    ]
    if changed:
        raise UserError(
            f"{workdir} holds a run with another config: {'; '.join(changed)}. "
            "Use its config to go on with it, or another workdir."
        )
    here, there = (set(run.get("left_out", ())) for run in (meta, saved))
    if here != there:
        which = min(here ^ there)
        raise UserError(
            f"{workdir} holds a run that skipped {len(there)} bad images, and now {len(here)} are "
            f"bad: image {which} was {'bad' if which in there else 'good'}. Put the files back as "
            "they were to go on with it, or use another workdir."
        )
    if meta["label_map"] != saved["label_map"]:
        raise UserError(
            f"{workdir} holds a run on other classes: {_named(saved)}, and the data has now "
            f"{_named(meta)}. Use its annotations to go on with it, or another workdir."
        )
    before, now = saved.get("train_data"), meta.get("train_data")
    if before and now and before != now:  # runs of earlier versions do not say
        raise UserError(
            f"{workdir} holds a run on other training data: its images, boxes or classes have "
            "changed. Put them back to go on with it, or take its weights into another "
            f"workdir with config.init_from={workdir}."
        )


def _named(meta: Mapping[str, Any]) -> str:
    pairs = zip(meta["label_map"]["category_ids"], meta["label_map"]["names"], strict=True)
    named = [f"{category_id} {name}" for category_id, name in pairs]
    return ", ".join(named[:5] + ["…"] * (len(named) > 5))


def _flat(config: ConfigDict | Mapping[str, Any]) -> dict[str, Any]:
    return {name: _as_tuple(value) for name, value in flat_fields(config)}


def _as_tuple(value: Any) -> Any:
    # JSON turns tuples into lists.
    return tuple(map(_as_tuple, value)) if isinstance(value, list | tuple) else value


def _floats(value: Any) -> Iterator[float]:
    """All floats of a field, which may be a tuple of tuples."""
    if isinstance(value, tuple):
        for item in value:
            yield from _floats(item)
    elif isinstance(value, float):
        yield value


def _refuse(name: str, value: Any, cure: str) -> None:
    raise UserError(f"config.{name}={value!r} does not work: {cure}.")
