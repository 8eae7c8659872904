"""The metrics of one COCO evaluation, which can be printed, written and read back."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

COCO_LIMIT = 100  # detections per image and class that count in COCO's own evaluation
SCORE_DIGITS = 4  # decimals of every AP and AR that is printed

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
    """The result of one evaluation; every number is in [0, 1], or NaN if it is undefined.

    Attributes:
        summary: the twelve metrics by the names in ``SUMMARY_NAMES``. NaN if the ground truth has
            no object in that area range (the official evaluator prints -1). If the limit is not 1,
            10 or 100, the recall at the limit is included, too: "AR150". AP, ARs, ARm and ARl are
            at the limit; AR10 and AR100 are at the limit if it is below 10 or 100.
        per_class: AP (IoU 0.50:0.95, all areas) by class name, in the order of the category ids;
            NaN for a class without ground truth in the evaluated images.
        num_images: number of evaluated images, including those without objects.
        num_detections: number of detections in those images.
        max_detections: the limit, how many detections count per image and class.
    """

    summary: dict[str, float]
    per_class: dict[str, float]
    num_images: int
    num_detections: int
    max_detections: int = COCO_LIMIT

    @property
    def printed_names(self) -> tuple[str, ...]:
        """Names in ``summary`` without recalls at more detections than the limit."""
        recalls = [f"AR{limit}" for limit in detection_limits(self.max_detections)]
        return (*SUMMARY_NAMES[:6], *recalls, *SUMMARY_NAMES[9:])

    def to_json(self) -> dict[str, Any]:
        """Return a flat dict that any JSON reader accepts: NaN becomes null."""
        return {
            **_nan_to_none(self.summary),
            "per_class": _nan_to_none(self.per_class),
            "num_images": self.num_images,
            "num_detections": self.num_detections,
            "max_detections": self.max_detections,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "CocoMetrics":
        """The inverse of ``to_json``; other keys are ignored.

        Without ``max_detections`` the limit is COCO's.

        Raises:
            KeyError, TypeError, AttributeError: the values are not from an evaluation.
        """
        limit = _count({"max_detections": COCO_LIMIT, **values}, "max_detections")
        return cls(
            summary=_none_to_nan({name: values[name] for name in summary_names(limit)}),
            per_class=_none_to_nan(values["per_class"]),
            num_images=_count(values, "num_images"),
            num_detections=_count(values, "num_detections"),
            max_detections=limit,
        )

    def __str__(self) -> str:
        numbers = [f"{name} {format_score(self.summary[name])}" for name in self.printed_names]
        return "  ".join(numbers[:6]) + "\n" + "  ".join(numbers[6:])


def detection_limits(max_detections: int = COCO_LIMIT) -> list[int]:
    """Return the numbers of detections at which recall is measured: COCO's and the limit."""
    return sorted({min(limit, max_detections) for limit in (1, 10, 100)} | {max_detections})


def summary_names(max_detections: int = COCO_LIMIT) -> tuple[str, ...]:
    """Return the names of the metrics: COCO's twelve, and "AR150" with a limit of 150.

    Args:
        max_detections: the limit of detections per image and class.
    """
    name = f"AR{max_detections}"
    return SUMMARY_NAMES if name in SUMMARY_NAMES else (*SUMMARY_NAMES, name)


def format_score(value: float | None) -> str:
    """Format an AP or AR in 0..1; NaN and None become "-" in the same width."""
    if value is None or math.isnan(value):
        return f"{'-':^{2 + SCORE_DIGITS}}"
    return f"{value:.{SCORE_DIGITS}f}"


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
