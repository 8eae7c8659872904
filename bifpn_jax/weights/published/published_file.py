"""A published weights file, as the catalog describes it."""

import math
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

# What the scores are measured with.
COCO_VAL = "COCO val AP"
IMAGENET = "ImageNet top-1"

# (mean_rgb, std_rgb) for input in -1 .. 1, as in models trained with AdvProp.
INCEPTION = {"mean_rgb": (127.5, 127.5, 127.5), "std_rgb": (127.5, 127.5, 127.5)}


class PublishedWeights(NamedTuple):
    """A file, where to get it, and the model that it belongs to.

    Attributes:
        name: its authors' name, made unique.
        kind: the code base whose names the file uses: "effdet", "timm", "efficientnet_pytorch",
            "automl" or "tflite".
        model: key of `models.scaling.MODELS`, or for a classifier of `efficientnet.VARIANTS`.
        settings: attributes in which the detector differs from `create_model(model)`; those of a
            classifier are for a detector that starts from it.
        url: URL of the file itself.
        sha256: SHA-256 of the file in hex, or its first digits, or "" if unknown.
        score: score in 0..1, as published with the file; NaN if it is not stated.
        metric: the metric of the score.
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
        """Whether it is a complete detector; otherwise an ImageNet classifier."""
        return self.metric != IMAGENET

    @property
    def url_file(self) -> str:
        """Published name of the file, which several files may share."""
        return PurePosixPath(urlsplit(self.url).path).name

    @property
    def file(self) -> str:
        """Unique local name of the file: the entry's name with the suffix of its format."""
        for suffix in (".tar.gz", ".tgz", ".safetensors", ".tflite", ".pth"):
            if self.url_file.endswith(suffix):
                return self.name + suffix
        raise ValueError(f"{self.url}: unknown suffix")
