"""The numbers of one COCO evaluation, as a value that can be printed, written and read back."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

# In the order of the official evaluator.
SUMMARY_NAMES = (
    "AP",
    "AP50",
    "AP75",
    "APs",
    "APm",
    "APl",
    "AR1",
    "AR10",
    "AR100",
    "ARs",
    "ARm",
    "ARl",
)


@dataclasses.dataclass(frozen=True)
class CocoMetrics:
    """The result of one evaluation; every number is in [0, 1], or NaN where nothing defines it.

    Attributes:
        summary: the twelve numbers by the names in ``SUMMARY_NAMES``. NaN where the ground truth
            has no object in that area range (the official evaluator prints -1).
        per_class: AP (IoU 0.50:0.95, all areas) by class name, in the order of the category ids;
            NaN for a class without ground truth in the evaluated images.
        num_images: evaluated images, those without objects included.
        num_detections: detections in those images.
    """

    summary: dict[str, float]
    per_class: dict[str, float]
    num_images: int
    num_detections: int

    def to_json(self) -> dict[str, Any]:
        """One flat dict that any JSON reader accepts: NaN becomes null."""
        return {
            **_nan_to_none(self.summary),
            "per_class": _nan_to_none(self.per_class),
            "num_images": self.num_images,
            "num_detections": self.num_detections,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "CocoMetrics":
        """The inverse of ``to_json``; other keys are ignored.

        Raises:
            KeyError, TypeError, AttributeError: the values are not those of an evaluation.
        """
        return cls(
            summary=_none_to_nan({name: values[name] for name in SUMMARY_NAMES}),
            per_class=_none_to_nan(values["per_class"]),
            num_images=_count(values, "num_images"),
            num_detections=_count(values, "num_detections"),
        )

    def __str__(self) -> str:
        numbers = [f"{name} {_digits(self.summary[name])}" for name in SUMMARY_NAMES]
        return "  ".join(numbers[:6]) + "\n" + "  ".join(numbers[6:])


def _digits(value: float) -> str:
    return "  -  " if math.isnan(value) else f"{value:.3f}"


def _nan_to_none(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def _none_to_nan(values: Mapping[str, float | None]) -> dict[str, float]:
    for name, value in values.items():
        if value is not None and not (type(value) in (int, float) and 0 <= value <= 1):
            raise TypeError(f"{name!r} is {value!r}")
    return {name: math.nan if value is None else value for name, value in values.items()}


def _count(values: Mapping[str, Any], name: str) -> int:
    if type(values[name]) is not int:
        raise TypeError(f"{name!r} is {values[name]!r}")
    return values[name]
