"""What is known of one published file of weights."""

import math
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

# What the scores are measured with.
COCO_VAL = "COCO val AP"
IMAGENET = "ImageNet top-1"

# Input in -1 .. 1, as models trained with AdvProp take it, (mean_rgb, std_rgb).
INCEPTION = {"mean_rgb": (127.5, 127.5, 127.5), "std_rgb": (127.5, 127.5, 127.5)}


class PublishedWeights(NamedTuple):
    """A file, where to get it, and the model that it belongs to.

    Attributes:
        name: as its authors call it, made unique.
        kind: code base whose names the file uses: "effdet", "timm", "efficientnet_pytorch",
            "automl" or "tflite".
        model: key of `models.scaling.MODELS`, or for a classifier of `efficientnet.VARIANTS`.
        settings: attributes in which the detector differs from `create_model(model)`; those of a
            classifier are for a detector that starts from it.
        url: of the file itself.
        sha256: of the file in hex, its first digits alone, or "" where nothing is known.
        score: in 0..1, as published with the file; not a number where that is not stated.
        metric: what the score is.
        licence: SPDX identifier.
        source: page with the authors' description.
    """

    name: str
    kind: str
    model: str
    settings: dict[str, Any]
    url: str
    sha256: str = ""
    score: float = math.nan
    metric: str = COCO_VAL
    licence: str = "Apache-2.0"
    source: str = ""

    @property
    def is_detector(self) -> bool:
        """Whether it is a whole detector; otherwise an ImageNet classifier."""
        return self.metric != IMAGENET

    @property
    def url_file(self) -> str:
        """Name of the file where it is published; several files have the same."""
        return PurePosixPath(urlsplit(self.url).path).name

    @property
    def file(self) -> str:
        """Name of the file here, unique: the entry's name with the suffix of what it is."""
        for suffix in (".tar.gz", ".tgz", ".safetensors", ".tflite", ".pth"):
            if self.url_file.endswith(suffix):
                return self.name + suffix
        raise ValueError(f"{self.url}: unknown suffix")
