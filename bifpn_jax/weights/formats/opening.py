"""Opens weights of any format, recognised by the content of a file and not its name."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bifpn_jax.errors import UserError
from bifpn_jax.weights.formats.format import Format
from bifpn_jax.weights.naming import own
from bifpn_jax.weights.naming.scheme import Scheme
from bifpn_jax.weights.published.catalog import find_published, published
from bifpn_jax.weights.published.download import fetch

# Modules in this folder, each with a FORMAT, and in naming/, each with a SCHEME; the first that
# recognises a file is used.
FORMATS = ("tf_checkpoint", "tflite_detector", "safetensors_file", "pth_file")
SCHEMES = ("own", "effdet", "automl", "tf_imagenet", "timm", "efficientnet_pytorch")


class WeightFile(NamedTuple):
    """Opened weights.

    Attributes:
        source: what messages call it.
        label: the kind of weights, in two or three words.
        entries: {name in the file: array in the file's layout}.
        scheme: the naming scheme of its entries.
        settings: attributes of `EfficientDet` with which the weights were trained, as far as the
            file or its catalog entry says more than the model's name.
        folded: whether its batch norms are folded.
        antialias: whether its known accuracy was measured on images resized with antialiasing.
        metadata: texts stored in the file; weights of this project have a "config" and a
            "label_map" there, as JSON.
        step: for a checkpoint in a workdir, the number of updates made.
    """

    source: str
    label: str
    entries: Mapping[str, np.ndarray]
    scheme: Scheme
    settings: Mapping[str, Any]
    folded: bool = False
    antialias: bool = False
    metadata: Mapping[str, str] = {}
    step: int | None = None


def open_weights(
    source: str | Path | Mapping[str, np.ndarray],
    *,
    step: int | str | None = None,
    ema: bool = True,
) -> WeightFile:
    """Read weights of any format.

    Args:
        source: a path, the name of published weights (downloaded if necessary), or a state dict
            {name: array}.
        step: for a workdir, a step, "latest" or "best"; None for the best if there is one, else
            the latest.
        ema: for a workdir, whether to take the averaged weights, or the raw ones.

    Raises:
        UserError: the source does not exist or cannot be read, its names match no known code base,
            or a step is given for something other than a workdir.
    """
    if isinstance(source, Mapping):
        return _named("the state dict", source)
    path = locate(source)
    name = str(path)
    if path.is_dir() and (path / "checkpoints").is_dir():
        # Imports orbax, which is slow.
        from bifpn_jax.weights.workdir import read_workdir

        found = read_workdir(path, step, ema=ema)
        return WeightFile(
            name,
            found.label,
            found.entries,
            own.SCHEME,
            **own.trained_with(name, found.metadata),
            metadata=found.metadata,
            step=found.step,
        )
    if step is not None:
        raise UserError(
            f"{path} is not a workdir and has one set of weights; leave step={step!r} out."
        )
    start = b""
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(9)
    for known in _formats():
        if known.recognises(path, start):
            contents = known.read(path)
            settings = {**known.settings, **_published_settings(path)}
            return _named(name, *contents, settings=settings, **known.facts)
    if path.is_dir():
        above = next((p for p in path.absolute().parents if (p / "checkpoints").is_dir()), None)
        hint = f"{above} is one" if above else "that is a folder with checkpoints/ in it"
        raise UserError(f"{path} is not the workdir of a training run; {hint}; or give {_kinds()}.")
    if start[:4] == b"\x89HDF":
        raise UserError(f"{path} is a Keras .h5 file; take the checkpoint (.tar.gz) beside it.")
    raise UserError(f"{path} holds no weights that can be read; give {_kinds()}.")


def locate(source: str | Path) -> Path:
    """Return the path of weights; published ones are first downloaded to the cache."""
    path = Path(source).expanduser()
    if path.exists() or path.with_name(path.name + ".index").exists():
        return path
    if path.name != str(source) or path.suffix:
        raise UserError(f"{source}: no such file or folder; give {_kinds()}.")
    return fetch(published(path.name))


def _published_settings(path: Path) -> Mapping[str, Any]:
    entry = find_published(path.name)
    return entry.settings if entry else {}


def _formats() -> Iterator[Format]:
    return (import_module(f"bifpn_jax.weights.formats.{name}").FORMAT for name in FORMATS)


def _schemes() -> Iterator[Scheme]:
    return (import_module(f"bifpn_jax.weights.naming.{name}").SCHEME for name in SCHEMES)


def _kinds() -> str:
    kinds = ", ".join(reversed([known.kind for known in _formats()]))  # the common ones first
    return f"{kinds}, a workdir of a training run, or a name that weights_catalog() has"


def _named(
    source: str,
    entries: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    label: str = "",
    antialias: bool = False,
    **facts: Any,
) -> WeightFile:
    metadata = metadata or {}
    for scheme in _schemes():
        if scheme.recognises(entries.keys()):
            known = {"settings": settings or {}, "antialias": antialias or scheme.antialias}
            if "config" in metadata:
                known = own.trained_with(source, metadata)
            return WeightFile(
                source, label or scheme.label, entries, scheme, **known, metadata=metadata, **facts
            )
    first = ", ".join(sorted(entries)[:3]) or "none"
    raise UserError(
        f"{source}: entries of an unknown kind (the first: {first}); give the weights of a whole "
        "EfficientDet or of an ImageNet EfficientNet."
    )
