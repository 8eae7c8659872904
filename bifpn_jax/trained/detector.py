"""A trained detector."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.errors import UserError
from bifpn_jax.inference import ImageDetections, make_detector
from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.postprocessing import PUBLISHED

# Minimum score of the detections for an image; an evaluation uses all of them.
SCORE_THRESHOLD = 0.05


@dataclasses.dataclass(frozen=True, eq=False)
class Detector:
    """A model with its weights, its classes, and its pre- and post-processing.

    Made by `load_detector`. Called with an image [H, W, 3] uint8 RGB of any size, it returns
    `ImageDetections`; the first call compiles. To change settings, use `dataclasses.replace`.

    Attributes:
        model: the network; its `image_hw` is its input size.
        variables: {"params", "batch_stats"}, arrays.
        label_map: its classes; names and category ids by label.
        antialias: how images are resized, see `data.augment.placing.resize`.
        postprocessing: arguments of `postprocess`.
        score_threshold: minimum score of the detections that a call returns; not used in
            evaluation.
        source: what it was read from, for messages.
        step: for a checkpoint, the number of updates made; None for a file.
        config: config of the run that trained it, as JSON; {} if unknown.
    """

    model: EfficientDet
    variables: dict[str, Any]
    label_map: LabelMap
    antialias: bool = False
    postprocessing: Mapping[str, Any] = dataclasses.field(default_factory=PUBLISHED._asdict)
    score_threshold: float | None = SCORE_THRESHOLD
    source: str = ""
    step: int | None = None
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        return self.label_map.names

    @property
    def image_hw(self) -> tuple[int, int]:
        """Height and width of the network's input, pixels."""
        return self.model.image_hw

    def __call__(self, image: np.ndarray) -> ImageDetections:
        """Detect objects in an image [H, W, 3] uint8 RGB; boxes are in its pixels, best first.

        Raises:
            UserError: the array is not an image.
        """
        return self._detect(image)

    @cached_property
    def _detect(self) -> Callable[[np.ndarray], ImageDetections]:
        return make_detector(
            self.model,
            self.variables,
            class_names=self.class_names,
            antialias=self.antialias,
            score_threshold=self.score_threshold,
            **self.postprocessing,
        )

    def __repr__(self) -> str:
        height, width = self.image_hw
        return (
            f"Detector({self.source or 'a model'}: {len(self.label_map)} classes, "
            f"{height}x{width} pixels)"
        )


def check_detector(value: Any) -> None:
    """Raise a UserError unless a value is a `Detector`, and not a function of `make_detector`."""
    if not isinstance(value, Detector):
        raise UserError(
            f"this is a {type(value).__name__}, and a Detector is needed, such as load_detector "
            "returns."
        )
