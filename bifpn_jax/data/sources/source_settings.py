"""The dataset settings of a config, from which each format takes what it needs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bifpn_jax.errors import UserError

SPLITS = ("train", "eval")


@dataclass(frozen=True)
class SourceSettings:
    """The fields ``data.*`` of a config, for one of the two parts of a dataset.

    Attributes:
        split: the part to open, "train" or "eval".
        data_dir: folder of the TFDS datasets; None or "" is TFDS's default.
        train_images: folder of the images to train on.
        train_annotations: file of their annotations.
        eval_images: folder of the images to evaluate on.
        eval_annotations: file of their annotations.
        train_split: TFDS split to train on.
        eval_split: TFDS split to evaluate on.
        bad_boxes: what to do about invalid boxes: "error", "skip" or "clip".
        bad_images: what to do about images that cannot be used: "error" or "skip".
        shapes: options of the drawn images: num_train, num_eval, seed, sides, max_shapes.
    """

    split: str
    data_dir: str | Path | None = None
    train_images: str | Path = ""
    train_annotations: str | Path = ""
    eval_images: str | Path = ""
    eval_annotations: str | Path = ""
    train_split: str = "train"
    eval_split: str = "validation"
    bad_boxes: str = "error"
    bad_images: str = "error"
    shapes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split is {self.split!r}, not 'train' or 'eval'")

    @property
    def images(self) -> str | Path:
        """The image folder of this part."""
        return self.train_images if self.split == "train" else self.eval_images

    @property
    def annotations(self) -> str | Path:
        """The annotation file of this part."""
        return self.train_annotations if self.split == "train" else self.eval_annotations

    @property
    def tfds_split(self) -> str:
        """The TFDS split of this part."""
        return self.train_split if self.split == "train" else self.eval_split

    def need_files(self, source: str) -> None:
        """Raise an error if the image folder or the annotation file is not set.

        Args:
            source: the source that needs them, for the message.

        Raises:
            UserError: one of the two is "".
        """
        for value, flag in ((self.images, "images=DIR"), (self.annotations, "annotations=FILE")):
            if not value:
                raise UserError(
                    f"the {source} source needs {self.split}_{flag}",
                    "set it, or train on drawn images with source=shapes",
                )
