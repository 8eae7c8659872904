"""Statistics of a dataset and how well the anchors fit its boxes, from the annotations alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bifpn_jax.boxes import area, from_xywh, pairwise_iou


@dataclass(frozen=True)
class DataReport:
    """Counts of a dataset of I images with N boxes (without crowds), sizes in network pixels.

    Attributes:
        boxes_per_image: [I] int.
        num_crowds: number of crowd annotations, which are not trained on.
        max_boxes: maximum number of boxes per image in training.
        iou_threshold: IoU from which an anchor is assigned to a box.
        class_names: K names.
        labels: [N] int, index into ``class_names``.
        sizes: [N] square root of the box area, in pixels of the letterboxed image.
        elongation: [N] longer side / shorter side.
        best_iou: [N] IoU with the best-fitting anchor.
        anchor_sizes: square root of the area of the smallest and of the largest anchor.
        anchor_elongation: the largest ratio of longer side / shorter side of an anchor.
    """

    boxes_per_image: np.ndarray
    num_crowds: int
    max_boxes: int
    iou_threshold: float
    class_names: tuple[str, ...]
    labels: np.ndarray
    sizes: np.ndarray
    elongation: np.ndarray
    best_iou: np.ndarray
    anchor_sizes: tuple[float, float]
    anchor_elongation: float

    @property
    def coverage(self) -> float:
        """Share of boxes whose best anchor reaches the threshold; 1 if there are no boxes."""
        return float(np.mean(self._is_covered)) if self.best_iou.size else 1.0

    @property
    def _is_covered(self) -> np.ndarray:
        return self.best_iou >= self.iou_threshold

    @property
    def boxes_per_class(self) -> dict[str, int]:
        """Number of boxes by class name."""
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    @property
    def boxes_over_limit(self) -> int:
        """Number of boxes that training drops because their image has more than ``max_boxes``."""
        return int(np.maximum(self.boxes_per_image - self.max_boxes, 0).sum())

    def __str__(self) -> str:
        return "\n\n".join([self._totals(), self._size_table(), self._class_table()])

    def _totals(self) -> str:
        counts = self.boxes_per_image
        over = int((counts > self.max_boxes).sum())
        return "\n".join(
            [
                f"images          {len(counts)}, {int((counts == 0).sum())} of them without boxes",
                f"boxes           {len(self.labels)}, and {self.num_crowds} crowds",
                f"boxes per image median {np.median(counts):.0f}, most {counts.max()}",
                f"over the limit  {over} images with more than {self.max_boxes} boxes, "
                f"{self.boxes_over_limit} boxes dropped",
                f"anchors         sizes from {self.anchor_sizes[0]:.0f} to "
                f"{self.anchor_sizes[1]:.0f} pixels",
                f"coverage        {self.coverage:.1%} of the boxes have an anchor with IoU >= "
                f"{self.iou_threshold:g}; the others get one anchor each" + self._uncovered(),
            ]
        )

    def _uncovered(self) -> str:
        """Return why boxes have no good anchor, if the reason is obvious."""
        missed = ~self._is_covered
        small = missed & (self.sizes < self.anchor_sizes[0])
        long = missed & ~small & (self.elongation > 2 * self.anchor_elongation)
        reasons = []
        if small.any():
            reasons.append(
                f"{small.sum()} are smaller than every anchor (a larger input or a smaller "
                "anchor_scale helps)"
            )
        if long.any():
            reasons.append(f"{long.sum()} are long and thin (more aspect_ratios help)")
        return "".join(f"\n                {reason}" for reason in reasons)

    def _size_table(self) -> str:
        lines = ["size [px]        boxes   share  covered  mean best IoU"]
        bin_of = np.floor(np.log2(np.maximum(self.sizes, 4))).astype(int)
        for exponent in sorted(set(bin_of.tolist())):
            inside = bin_of == exponent
            low, high = (0 if exponent == 2 else 2**exponent), 2 ** (exponent + 1)
            lines.append(
                f"{low:>5} - {high:<5}  {inside.sum():>8}  {inside.mean():>6.1%}  "
                f"{self._covered(inside):>7}  {self.best_iou[inside].mean():>8.2f}"
            )
        return "\n".join(lines)

    def _class_table(self) -> str:
        width = max(len("class"), *(len(name) for name in self.class_names))
        lines = [f"{'class':<{width}}     boxes  covered"]
        counts = self.boxes_per_class
        for label in sorted(range(len(counts)), key=lambda i: -counts[self.class_names[i]]):
            name = self.class_names[label]
            covered = self._covered(self.labels == label)
            lines.append(f"{name:<{width}}  {counts[name]:>8}  {covered:>7}")
        return "\n".join(lines)

    def _covered(self, chosen: np.ndarray) -> str:
        return f"{np.mean(self._is_covered[chosen]):.1%}" if chosen.any() else "-"


def data_report(
    ground_truth: Mapping[str, Any],
    anchors: np.ndarray,
    image_hw: tuple[int, int],
    max_boxes: int,
    iou_threshold: float = 0.5,
) -> DataReport:
    """Examine annotations in the network's frame, letterboxed and not augmented.

    Args:
        ground_truth: a COCO dict whose images state ``height`` and ``width``.
        anchors: [A, 4] yxyx for images of ``image_hw``.
        image_hw: height and width of the network's input.
        max_boxes: maximum number of boxes per image in training.
        iou_threshold: threshold of the assignment, as in `matching.match`.
    """
    images = ground_truth["images"]
    row_of = {image["id"]: row for row, image in enumerate(images)}
    factors = np.array(
        [min(image_hw[0] / image["height"], image_hw[1] / image["width"]) for image in images]
    )
    categories = sorted(ground_truth["categories"], key=lambda category: category["id"])
    label_of = {category["id"]: label for label, category in enumerate(categories)}

    objects = [a for a in ground_truth["annotations"] if not a.get("iscrowd", 0)]
    rows = np.array([row_of[a["image_id"]] for a in objects], int)
    xywh = np.array([a["bbox"] for a in objects], np.float64).reshape(-1, 4)
    boxes = from_xywh(xywh * factors[rows][:, None])
    anchor_sizes = np.sqrt(area(anchors))
    return DataReport(
        boxes_per_image=np.bincount(rows, minlength=len(images)),
        num_crowds=len(ground_truth["annotations"]) - len(objects),
        max_boxes=max_boxes,
        iou_threshold=iou_threshold,
        class_names=tuple(category["name"] for category in categories),
        labels=np.array([label_of[a["category_id"]] for a in objects], int),
        sizes=np.sqrt(area(boxes)),
        elongation=_elongation(boxes),
        best_iou=best_anchor_iou(boxes, anchors),
        anchor_sizes=(float(anchor_sizes.min()), float(anchor_sizes.max())),
        anchor_elongation=float(_elongation(anchors).max()),
    )


def best_anchor_iou(boxes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Return the highest IoU of each box [N, 4] with any anchor [A, 4], as [N] float64.

    Exact, and fast enough for a million boxes: among anchors of one shape on a grid, the one with
    the nearest centre along both axes overlaps most, so one anchor per shape is enough.
    """
    boxes = np.asarray(boxes, np.float64)
    anchors = np.asarray(anchors, np.float64)
    y, x = (anchors[:, 0] + anchors[:, 2]) / 2, (anchors[:, 1] + anchors[:, 3]) / 2
    heights, widths = anchors[:, 2] - anchors[:, 0], anchors[:, 3] - anchors[:, 1]
    shapes = np.stack([_nearly_equal(heights), _nearly_equal(widths)], axis=1)
    _, shape_of = np.unique(shapes, axis=0, return_inverse=True)
    best = np.zeros(len(boxes))
    for shape in range(shape_of.max() + 1):
        members = np.flatnonzero(shape_of == shape)
        rows, columns = np.unique(y[members]), np.unique(x[members])
        if len(rows) * len(columns) == len(members):
            half = np.array([heights[members[0]], widths[members[0]]]) / 2
            near = np.stack(
                [
                    _nearest(rows, (boxes[:, 0] + boxes[:, 2]) / 2),
                    _nearest(columns, (boxes[:, 1] + boxes[:, 3]) / 2),
                ],
                axis=1,
            )
            iou = _paired_iou(boxes, np.concatenate([near - half, near + half], axis=1))
        else:  # two levels with anchors of one shape: not a grid
            iou = np.array([pairwise_iou(box[None], anchors[members]).max() for box in boxes])
        best = np.maximum(best, iou)
    return best


def _nearly_equal(values: np.ndarray) -> np.ndarray:
    """Return a number for every group of values that differ only by rounding."""
    order = np.argsort(values)
    starts_group = np.diff(values[order], prepend=values[order[0]]) > 1e-3 * values[order]
    group = np.empty(len(values), int)
    group[order] = np.cumsum(starts_group)
    return group


def _nearest(grid: np.ndarray, points: np.ndarray) -> np.ndarray:
    return grid[np.searchsorted((grid[1:] + grid[:-1]) / 2, points)]


def _paired_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the IoU of row i of a [N, 4] with row i of b [N, 4]."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    intersection = np.maximum(sides, 0).prod(axis=1)
    union = area(a) + area(b) - intersection
    return intersection / np.maximum(union, np.finfo(np.float64).tiny)


def _elongation(boxes: np.ndarray) -> np.ndarray:
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-8)
    return sides.max(axis=1) / sides.min(axis=1)
