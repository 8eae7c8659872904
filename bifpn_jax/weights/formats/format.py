"""What a file format is: how weights of one kind of file are known and read."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Contents(NamedTuple):
    """What a file holds.

    Attributes:
        entries: {name: array}, as the file calls and lays them out.
        metadata: texts stored beside them.
    """

    entries: Mapping[str, np.ndarray]
    metadata: Mapping[str, str] = {}


class Format(NamedTuple):
    """One kind of file: `FORMAT` in a module of this folder, which `opening.FORMATS` lists.

    Attributes:
        kind: what messages call it, with its article: "a TensorFlow checkpoint".
        recognises: from a path and the first bytes of the file (none of a folder or of the prefix
            of several files), whether it is one.
        read: the path -> its contents. Raises a UserError of one line for what is damaged, before
            more memory is taken than the file can fill; nothing in a file is executed.
        settings: attributes of `EfficientDet` with which all such weights were trained.
        facts: further attributes of `WeightFile`.
    """

    kind: str
    recognises: Callable[[Path, bytes], bool]
    read: Callable[[Path], Contents]
    settings: Mapping[str, Any] = {}
    facts: Mapping[str, Any] = {}
