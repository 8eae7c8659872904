"""What a resumed run reports about its past: how its schedule has changed."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from bifpn_jax.data.records import Source
from bifpn_jax.evaluation.fingerprint import ground_truth_fingerprint
from bifpn_jax.recipe import building
from bifpn_jax.recipe.building import RunLength
from bifpn_jax.recipe.fields import with_added_fields

_LENGTH_FIELDS = ("epochs", "steps")


def training_fingerprint(source: Source) -> str:
    """Return a fingerprint of training data, wherever it is; "" for a set too large to read."""
    if source.box_counts() is None:
        return ""
    return ground_truth_fingerprint(source.ground_truth())


def length_before(saved: Mapping[str, Any], num_images: int) -> RunLength:
    """Return the length that a run had when it saved a checkpoint.

    Args:
        saved: meta of the checkpoint. In those of earlier versions the length is missing; it then
            follows from their config if the data still has the same size.
        num_images: current number of training images.
    """
    if "length" in saved:
        return RunLength(*saved["length"])
    return building.run_length(with_added_fields(saved["config"]), num_images)


def schedule_change(
    config: ConfigDict, length: RunLength, saved: Mapping[str, Any], num_images: int, step: int
) -> str:
    """Return one line about a schedule that is longer or shorter than before, "" if unchanged.

    Args:
        config: current config of the run.
        length: current length of the run.
        saved: meta of the checkpoint to resume from.
        num_images: current number of training images.
        step: step of that checkpoint.
    """
    before = length_before(saved, num_images)
    if before.total_steps == length.total_steps:
        return ""
    old = with_added_fields(saved["config"])
    changes = [
        f"train.{name} changed from {old.train[name]} to {config.train[name]}"
        for name in _LENGTH_FIELDS
        if old.train[name] != config.train[name]
    ]
    if before.steps_per_epoch != length.steps_per_epoch:
        changes.append("the number of training images changed")
    why = f"{' and '.join(changes)} ({before.total_steps} steps before, now {length.total_steps})"
    if step >= length.total_steps:
        return (
            f"this run is at step {step}, beyond the end of the new schedule, step "
            f"{length.total_steps}, because {why}: nothing is trained"
        )
    # The rate of the next update, or for a run at its end, of the last one.
    last = building.schedule(old, before)(min(step, before.total_steps - 1))
    new = building.schedule(config, length)(step)
    return (
        f"learning rate at step {step}: {float(last):.1e} → {float(new):.1e} because {why}; for a "
        "schedule from the start take these weights into a new workdir with config.init_from"
    )


def with_length_of(config: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config, as JSON, with the length of the run taken from a saved config."""
    lengths = {name: saved["config"]["train"][name] for name in _LENGTH_FIELDS}
    return {**config, "train": {**config["train"], **lengths}}
