"""The record that every data source returns: an encoded image with its boxes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bifpn_jax import boxes as box_ops
from bifpn_jax.data.images.image_decoding import decode_image
from bifpn_jax.data.images.image_header import is_turned
from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.errors import UserError

# What to do about an image that cannot be used: "error" stops, "skip" continues without it.
BAD_IMAGES = ("error", "skip")


class BadImageError(UserError):
    """An image of a source that cannot be used: missing, damaged, too large or of another size.

    Attributes:
        image_id: its id in the dataset.
    """

    def __init__(self, message: object, image_id: int) -> None:
        """Store the message and the id of the image."""
        super().__init__(str(message))
        self.image_id = image_id


@dataclass(frozen=True)
class Record:
    """One image and its N annotated objects, in pixels of the original image.

    Attributes:
        image_id: the image's id in its dataset.
        encoded: the encoded image file (JPEG, PNG, ...).
        where: file name, for messages.
        boxes: [N, 4] float32 ``[y0, x0, y1, x1]``.
        labels: [N] int32 in 0..K-1.
        is_crowd: [N] bool, True for a box around a group: not trained on, ignored in evaluation.
        area: [N] float32, the object's area in pixels (its mask's, if the dataset has masks).
        original_hw: height and width after EXIF rotation as the dataset states them, or None.
    """

    image_id: int
    encoded: bytes
    where: str
    boxes: np.ndarray
    labels: np.ndarray
    is_crowd: np.ndarray
    area: np.ndarray
    original_hw: tuple[int, int] | None = None


class Source(Protocol):
    """A dataset: random access to records, and what evaluation needs.

    Attributes:
        name: what messages call it.
        label_map: its classes.
        left_out: the bad images that were skipped when it was opened.
    """

    name: str
    label_map: LabelMap
    left_out: Sequence[BadImageError]

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def __getitem__(self, index: int) -> Record:
        """Return record 0 <= index < len; may be called from several threads at once.

        Raises:
            BadImageError: the image was good when the source was opened but no longer is.
        """
        ...

    def box_counts(self) -> np.ndarray | None:
        """Return the number of boxes of each image, crowds not counted: [len] int64.

        None if that would mean reading all of a large dataset.
        """
        ...

    def ground_truth(self) -> dict[str, list]:
        """Return images, annotations and categories as a COCO annotation file has them."""
        ...

    def summary(self) -> str:
        """Return one line about the dataset for the log."""
        ...


def load_image(record: Record, *, thorough: bool = False) -> np.ndarray:
    """Decode a record's image to [H, W, 3] uint8 RGB and compare its size with the stated one.

    Args:
        record: the record.
        thorough: see ``decode_image``.

    Raises:
        BadImageError: it cannot be decoded, or is of another size.
    """
    try:
        image = decode_image(record.encoded, record.where, thorough=thorough)
    except UserError as error:
        raise BadImageError(error, record.image_id) from None
    if record.original_hw is not None and image.shape[:2] != tuple(record.original_hw):
        (h, w), (stated_h, stated_w) = image.shape[:2], record.original_hw
        turned = (w, h) == (stated_h, stated_w)
        cure = "annotate the file as it is or restore the original one"
        if turned:
            cure = "height and width are exchanged in the annotations, or the image was turned"
            if is_turned(record.encoded):
                cure = (
                    "its EXIF rotation is applied here; save it without that tag or annotate it "
                    "upright"
                )
        raise BadImageError(
            f"{record.where}: the image is {w}x{h} pixels (width x height) but the annotations "
            f"say {stated_w}x{stated_h}, so its boxes would be misplaced; {cure}",
            record.image_id,
        )
    return image


def to_coco(records: Iterable[Record], label_map: LabelMap) -> dict[str, list[dict[str, Any]]]:
    """Build the content of a COCO annotation file from records."""
    images, annotations = [], []
    for record in records:
        images.append(image_entry(record))
        annotations += annotation_entries(record, label_map, first_id=len(annotations) + 1)
    return {
        "images": images,
        "annotations": annotations,
        "categories": category_entries(label_map),
    }


def image_entry(record: Record) -> dict[str, Any]:
    """Return a record's entry in the ``images`` of a COCO file."""
    hw = record.original_hw or decode_image(record.encoded, record.where).shape[:2]
    return {
        "id": int(record.image_id),
        "file_name": record.where,
        "height": int(hw[0]),
        "width": int(hw[1]),
    }


def annotation_entries(
    record: Record, label_map: LabelMap, first_id: int = 1
) -> list[dict[str, Any]]:
    """Return a record's objects as ``annotations`` of a COCO file.

    They are numbered from ``first_id``, which must not be 0: to pycocotools 0 means "no match".
    """
    xywh = box_ops.to_xywh(record.boxes.astype(np.float64))
    category_ids = label_map.to_category_ids(record.labels)
    return [
        {
            "id": first_id + i,
            "image_id": int(record.image_id),
            "category_id": int(category_ids[i]),
            "bbox": box.tolist(),
            "area": float(record.area[i]),
            "iscrowd": int(record.is_crowd[i]),
        }
        for i, box in enumerate(xywh)
    ]


def category_entries(label_map: LabelMap) -> list[dict[str, Any]]:
    """Return a label map as the ``categories`` of a COCO file."""
    pairs = zip(label_map.category_ids, label_map.names, strict=True)
    return [{"id": category_id, "name": name} for category_id, name in pairs]
