"""The catalog of published weights files."""

import difflib
import re
from pathlib import Path

from bifpn_jax.errors import UserError
from bifpn_jax.weights.published.published_backbones import backbones
from bifpn_jax.weights.published.published_detectors import detectors
from bifpn_jax.weights.published.published_file import PublishedWeights


def weights_catalog() -> dict[str, PublishedWeights]:
    """Return {name: facts about the file}, detectors first."""
    return {entry.name: entry for entry in (*detectors(), *backbones())}


def find_published(name: str | Path) -> PublishedWeights | None:
    """Find the entry of a name or file name, as published or as `download.fetch` calls it.

    Returns None for a file that is not in the catalog, and for a name of several published files.
    """
    catalog = weights_catalog()
    name = Path(name).name
    if name in catalog:
        return catalog[name]
    for key in ("file", "url_file"):
        found = [entry for entry in catalog.values() if getattr(entry, key) == name]
        if len(found) == 1:
            return found[0]
    return None


def _model_in(name: str) -> str:
    """Return the model that a name stands for, if any: "EfficientDet-Lite0" -> "lite0"."""
    return re.sub(r"^(tf[-_]?)?(efficient-?(det|net)[-_]?)?", "", name.lower())


def published(name: str) -> PublishedWeights:
    """Like `find_published`, for a name that must exist.

    Raises:
        UserError: there is none, or several files have that name; the message suggests similar
            names.
    """
    if entry := find_published(name):
        return entry
    catalog = weights_catalog()
    same = [entry.name for entry in catalog.values() if entry.url_file == name]
    if same:
        raise UserError(
            f"several published files are called {name}; say which: {', '.join(same[:8])}."
        )
    of_model = [entry for entry in catalog.values() if entry.model == _model_in(name)]
    detectors = [entry.name for entry in of_model if entry.is_detector]
    if of_model:
        is_classifier = "efficientnet" in name.lower() or not detectors
        fitting = [entry.name for entry in of_model if entry.is_detector != is_classifier]
        more = ", …" if len(fitting) > 8 else ""
        raise UserError(
            f"{name!r} is a model, not weights; take one of its published weights: "
            f"{', '.join(fitting[:8])}{more}."
        )
    near = difflib.get_close_matches(name, catalog, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "there is no similar name."
    raise UserError(f"no published weights called {name!r}: {hint} weights_catalog() has all.")
