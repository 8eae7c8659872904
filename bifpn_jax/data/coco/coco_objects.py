"""Checks the annotations of a COCO file one by one and keeps them as arrays sorted by image."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bifpn_jax import boxes as box_ops
from bifpn_jax.data.coco.box_layout import OVERHANG, check_layout, corners, layout_remarks
from bifpn_jax.data.coco.coco_file import CocoImages, unique_ids
from bifpn_jax.data.coco.rotated_boxes import enclose_rotated, read_rotation, rotation_remarks
from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.errors import UserError

_LARGEST_AREA = 1e38  # records store it as float32

BAD_BOXES = ("error", "clip", "skip")


@dataclass(frozen=True)
class CocoObjects:
    """The T good annotations of a file, sorted by image.

    Attributes:
        first: [N + 1] int64; the objects of image i are ``first[i]:first[i + 1]``.
        ids: [T] int64 annotation ids.
        xywh: [T, 4] float64 boxes as in the file (clipped to the image with ``bad_boxes="clip"``;
            rotated boxes are replaced by the upright ones around them).
        yxyx: [T, 4] float32 the same boxes as y0, x0, y1, x1, clipped to the image.
        labels: [T] int32.
        is_crowd: [T] bool.
        area: [T] float64, the area of the box if the file gives none.
        num_cut: number of boxes that extended beyond their image and were clipped.
        num_skipped: number of bad boxes that were skipped.
        remarks: other remarks about the boxes, in clauses.
    """

    first: np.ndarray
    ids: np.ndarray
    xywh: np.ndarray
    yxyx: np.ndarray
    labels: np.ndarray
    is_crowd: np.ndarray
    area: np.ndarray
    num_cut: int
    num_skipped: int
    remarks: tuple[str, ...] = ()

    def entries(self, own: slice, image_id: int, label_map: LabelMap) -> list[dict[str, Any]]:
        """Return one image's annotations as the file has them, without segmentation."""
        category_ids = label_map.to_category_ids(self.labels[own])
        return [
            {
                "id": int(self.ids[i]),
                "image_id": image_id,
                "category_id": int(category_id),
                "bbox": self.xywh[i].tolist(),
                "area": float(self.area[i]),
                "iscrowd": int(self.is_crowd[i]),
            }
            for i, category_id in zip(range(own.start, own.stop), category_ids, strict=True)
        ]


def read_objects(
    path: Path,
    annotations: list[dict[str, Any]],
    images: CocoImages,
    label_map: LabelMap,
    bad_boxes: str = "error",
) -> CocoObjects:
    """Check the annotations and sort them by image.

    Args:
        path: the file, for messages.
        annotations: the file's list.
        images: the images, with their actual sizes.
        label_map: the file's categories.
        bad_boxes: what to do about a box that has NaN or no area or is outside its image: "error"
            raises; "skip" skips it; "clip" clips it to the image and skips it if it has no area.

    Raises:
        UserError: an annotation is wrong, or the boxes together are not [x, y, width, height] in
            pixels.
    """
    if bad_boxes not in BAD_BOXES:
        raise UserError(f"bad_boxes is {bad_boxes!r}; set bad_boxes to one of {BAD_BOXES}")
    ids = unique_ids(path, "annotations", annotations)
    row_of_image = {image_id: row for row, image_id in enumerate(images.ids.tolist())}
    known = set(label_map.category_ids)
    rows, categories, boxes, crowd, areas, rotations = [], [], [], [], [], []
    for annotation in annotations:
        where = f"{path}: annotation {annotation['id']}"
        image_id, category_id = annotation.get("image_id"), annotation.get("category_id")
        if type(image_id) is not int or image_id not in row_of_image:
            raise UserError(
                f"{where} belongs to image {image_id!r}, which is not in the list of images; "
                "add the image or remove the annotation"
            )
        row = row_of_image[image_id]
        where += f" (image {image_id}, {images.names[row]})"
        if type(category_id) is not int or category_id not in known:
            raise UserError(f"{where} has {_unknown_category(category_id, label_map)}")
        box = _read_box(where, annotation.get("bbox"))
        rows.append(row)
        categories.append(category_id)
        boxes.append(box)
        crowd.append(_read_crowd(where, annotation.get("iscrowd")))
        areas.append(_read_area(where, annotation.get("area")))
        rotations.append(read_rotation(annotation.get("attributes")))

    row, xywh = np.array(rows, np.int64), np.array(boxes, np.float64).reshape(-1, 4)
    hw = images.hw[row].astype(np.float64)
    check_layout(path, xywh, hw)
    # Infinite and NaN boxes are reported below.
    with np.errstate(invalid="ignore", over="ignore"):
        area_of_rotated = xywh[:, 2] * xywh[:, 3]
        rotated = enclose_rotated(xywh, np.array(rotations), hw)
        yxyx = box_ops.from_xywh(xywh)
        cut = box_ops.clip(yxyx[:, None], hw)[:, 0]
        overhang = np.abs(yxyx - cut).max(axis=1, initial=0)
    fault = _faults(xywh, cut, overhang, limit=np.inf if bad_boxes == "clip" else OVERHANG)
    bad = fault != ""
    if bad_boxes == "error" and bad.any():
        i = int(np.argmax(bad))
        layout = corners(xywh, hw) if overhang[i] > OVERHANG else ""
        hint = (
            f"nearly all boxes look like {layout}: if they are, give [x0, y0, x1 - x0, y1 - y0]; "
            "if not, "
            if layout
            else ""
        )
        raise UserError(
            f"{path}: annotation {ids[i]} (image {images.ids[row[i]]}, {images.names[row[i]]}, "
            f"{hw[i, 1]:.0f}x{hw[i, 0]:.0f}) has the box {xywh[i].tolist()} (x, y, width, height), "
            f"which {fault[i]} (the first of {bad.sum()} bad boxes); {hint}correct the file, or "
            "set bad_boxes=skip (skip such boxes) or =clip (clip them to the "
            "image)"
        )
    far = overhang > OVERHANG
    xywh[far] = box_ops.to_xywh(cut[far])
    with np.errstate(invalid="ignore", over="ignore"):
        box_area = np.where(rotated, area_of_rotated, xywh[:, 2] * xywh[:, 3])

    kept = np.flatnonzero(~bad)
    kept = kept[np.argsort(row[kept], kind="stable")]
    area = np.array(areas, np.float64)[kept]
    return CocoObjects(
        first=np.searchsorted(row[kept], np.arange(len(images.ids) + 1)),
        ids=ids[kept],
        xywh=xywh[kept],
        yxyx=cut[kept].astype(np.float32),
        labels=label_map.to_labels(np.array(categories, np.int64)[kept]),
        is_crowd=np.array(crowd, bool)[kept],
        area=np.where(np.isnan(area), box_area[kept], area),
        num_cut=int((overhang[kept] > 1e-3).sum()),  # less is a rounding error
        num_skipped=int(bad.sum()),
        remarks=tuple(rotation_remarks(rotated[kept]) + layout_remarks(xywh[kept], hw[kept])),
    )


def _unknown_category(category_id: Any, label_map: LabelMap) -> str:
    classes = ", ".join(
        f"{i} {name!r}"
        for i, name in zip(label_map.category_ids[:5], label_map.names[:5], strict=True)
    )
    more = f", ... {len(label_map)} in all" if len(label_map) > 5 else ""
    return (
        f"the unknown category {category_id!r} (the file's categories are {classes}{more}); "
        "correct category_id or add the category"
    )


def _read_box(where: str, box: Any) -> list[float]:
    if (
        not isinstance(box, list)
        or len(box) != 4
        or not all(type(value) is float or _is_whole(value) for value in box)
    ):
        raise UserError(f"{where} has the bbox {box!r}; give [x, y, width, height] in pixels")
    return box


def _is_whole(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**63


def _read_crowd(where: str, crowd: Any) -> bool:
    if crowd not in (None, 0, 1):
        raise UserError(f"{where} has the iscrowd {crowd!r}; give 0 or 1 or leave it out")
    return bool(crowd)


def _read_area(where: str, area: Any) -> float:
    """Return the area, NaN if the file gives none."""
    if area is None:
        return np.nan
    if type(area) not in (int, float) or not 0 <= area < _LARGEST_AREA:
        raise UserError(f"{where} has the area {area!r}; give square pixels or leave it out")
    return area


def _faults(xywh: np.ndarray, cut: np.ndarray, overhang: np.ndarray, limit: float) -> np.ndarray:
    """Return what is wrong with each box, "" for a good one: [T] of strings."""
    size = xywh[:, 2:]
    return np.select(
        [
            ~np.isfinite(xywh).all(axis=1),
            (size < 0).any(axis=1),
            (size == 0).any(axis=1),
            (cut[:, 2:] <= cut[:, :2]).any(axis=1),
            overhang > limit,
        ],
        [
            "has a value that is not a number",
            "has a negative size",
            "has zero width or height",
            "lies outside of the image",
            "reaches outside of the image",
        ],
        default="",
    )
