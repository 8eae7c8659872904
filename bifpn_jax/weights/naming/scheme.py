"""What a naming scheme is: how the files of another code base call a model's variables."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import flax.linen as nn
import numpy as np

from bifpn_jax.models.backbones.efficientnet import Classifier

# Place of a variable in a model, without its collection: ("backbone", "stem_conv", "kernel").
Path = tuple[str, ...]


class Scheme(NamedTuple):
    """Names and layouts of one code base's files: `SCHEME` in a module of this folder.

    `formats.opening.SCHEMES` lists the modules; the first that recognises a file counts.

    Attributes:
        label: what such a file is, for messages: "effdet detector".
        parts: top-level modules of the model that such a file holds; "classifier" stands for the
            ImageNet head (head_conv, head_bn, classifier).
        recognises: whether the names of a file's entries are of this scheme.
        entries: names of the entries that make up the variable at a path of a model, in order;
            nearly always one, and none where the code base has no such layer.
        convert: these entries and the path -> the variable in this project's layout, float32.
        unused: why an entry that no variable asked for holds nothing that a model needs, in a few
            words for the report ("counters of batches"); "" if there is no such reason.
        antialias: whether the accuracies known of such weights were measured on images that were
            resized so.
    """

    label: str
    parts: tuple[str, ...]
    recognises: Callable[[Collection[str]], bool]
    entries: Callable[[Path, nn.Module, Collection[str]], Sequence[str]]
    convert: Callable[[Sequence[np.ndarray], Path], np.ndarray]
    unused: Callable[[str], str]
    antialias: bool = False


DETECTOR = ("backbone", "feature_network", "class_head", "box_head")
CLASSIFIER = ("backbone", "classifier")

# Reasons why an entry is not needed that several schemes have.
COUNTERS = "counters of batches"
IMAGENET_HEAD = "head of the ImageNet classifier"


def backbone_of(model: nn.Module) -> str:
    """Name of the backbone of a classifier or a detector."""
    return model.variant if isinstance(model, Classifier) else model.backbone
