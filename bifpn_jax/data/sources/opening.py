"""Opens the dataset that a configuration names.

A format is a module in this folder with a function

    def open_split(settings: SourceSettings) -> Source

and a line in ``FORMATS``. A custom format is such a function, of any name, in the user's file, and
is named as ``FILE.py:NAME``; with ``box_list.source_of_boxes`` it takes only a few lines.
"""

import difflib
import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from bifpn_jax.data.records import Source
from bifpn_jax.data.sources.source_settings import SourceSettings
from bifpn_jax.errors import UserError
from bifpn_jax.named_parts import is_code, load_code, reported

Opener = Callable[[SourceSettings], Source]


class Format(NamedTuple):
    """A named format.

    Attributes:
        module: its module in this folder, imported when the format is used.
        reads_files: whether it reads the image folder and the annotations of the settings.
    """

    module: str
    reads_files: bool


FORMATS: Mapping[str, Format] = {
    "coco_json": Format("coco_folder", reads_files=True),
    "shapes": Format("shapes", reads_files=False),
    "coco2017": Format("coco2017", reads_files=False),
}

_NEEDED = (
    *("name", "label_map", "left_out", "__len__", "__getitem__"),
    *("box_counts", "ground_truth", "summary"),
)


def open_source(source: str | Opener, split: str, **settings: Any) -> Source:
    """Open the training or the evaluation part of a dataset.

    Args:
        source: a key of ``FORMATS``: "coco_json" (a folder of images and a COCO JSON), "shapes"
            (drawn, no download), "coco2017" (downloaded if missing); the name of any TFDS detection
            dataset that is prepared as array_record, such as "voc/2007"; or a function from
            ``SourceSettings`` to a ``Source``, by itself or as ``FILE.py:NAME``.
        split: "train" or "eval".
        **settings: fields of ``SourceSettings``.

    Raises:
        UserError: a setting is missing or the dataset has a fault.
    """
    given = SourceSettings(split, **settings)
    if isinstance(source, str) and source in FORMATS:
        module = importlib.import_module(f"bifpn_jax.data.sources.{FORMATS[source].module}")
        return module.open_split(given)
    if callable(source) or is_code(source):
        return _open_own(source, given)
    from bifpn_jax.data.sources.tfds_folder import tfds_dir
    from bifpn_jax.data.sources.tfds_set import open_prepared

    exists = bool(source) and (tfds_dir(given.data_dir) / source.partition(":")[0]).exists()
    # A name with a slash belongs to TFDS, unless it is very close to one of these.
    near = difflib.get_close_matches(source, FORMATS, 1, 0.85 if "/" in source else 0.6)
    if not source or (near and not exists):
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise UserError(
            f"there is no dataset {source!r}{meant}",
            f"set source to {', '.join(FORMATS)}, the name of a detection set that TFDS has "
            "prepared, such as voc/2007, or code of your own, FILE.py:NAME",
        )
    return open_prepared(source, given)


def reads_files(source: str) -> bool:
    """Whether a source reads the image folder and the annotation file of the settings."""
    return is_code(source) or (source in FORMATS and FORMATS[source].reads_files)


def _open_own(source: str | Opener, settings: SourceSettings) -> Source:
    opener = load_code(source) if isinstance(source, str) else source
    name = source if isinstance(source, str) else getattr(source, "__qualname__", repr(source))
    with reported(f"source {name}"):
        opened = opener(settings)
    missing = [attribute for attribute in _NEEDED if not hasattr(opened, attribute)]
    if missing:
        raise UserError(
            f"source {name} returns {type(opened).__name__}, which has no {', '.join(missing)}; "
            "make it a bifpn_jax.data.records.Source"
        )
    return opened
