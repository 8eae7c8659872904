"""The interface of a file format: how its files are recognised and read."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Contents(NamedTuple):
    """The contents of a file.

    Attributes:
        entries: {name: array}, with the file's names and layouts.
        metadata: texts stored with them.
    """

    entries: Mapping[str, np.ndarray]
    metadata: Mapping[str, str] = {}


class Format(NamedTuple):
    """One kind of file: `FORMAT` in a module of this folder, which `opening.FORMATS` lists.

    Attributes:
        kind: what messages call it, with its article: "a TensorFlow checkpoint".
        recognises: decides from a path and the first bytes of the file (none for a folder or the
            prefix of several files) whether it has this format.
        read: path -> contents. Raises a one-line UserError if the file is damaged, before it uses
            more memory than the file can fill; never executes anything in a file.
        settings: attributes of `EfficientDet` with which all such weights were trained.
        facts: further attributes of `WeightFile`.
    """

    kind: str
    recognises: Callable[[Path, bytes], bool]
    read: Callable[[Path], Contents]
    settings: Mapping[str, Any] = {}
    facts: Mapping[str, Any] = {}
