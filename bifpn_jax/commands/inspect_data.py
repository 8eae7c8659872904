"""Shows a dataset as training sees it, before any time is spent on training.

    bifpn inspect --config=configs/d1.py --output=runs/data

prints what the data contains and how well the anchors fit its boxes, and draws the first training
images of a run with this config: as annotated (annotated.jpg), after augmentation (augmented.jpg),
and with the anchors that the loss matches to their boxes (matched.jpg). An image has the same
place in all three.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from bifpn_jax.command_line import command
from bifpn_jax.command_line.download_consent import ask_before_download, define_download_flag
from bifpn_jax.command_line.flag_names import flags_of_fields, flags_of_names, in_flags
from bifpn_jax.command_line.trained_model import define_trust_flag
from bifpn_jax.data.records import BadImageError, Record, Source
from bifpn_jax.data.rows import NONE_SKIPPED
from bifpn_jax.errors import UserError
from bifpn_jax.inspection import lettering
from bifpn_jax.inspection.data_pictures import (
    annotated_picture,
    augmented_pictures,
    matched_pictures,
)
from bifpn_jax.inspection.data_report import data_report
from bifpn_jax.inspection.pictures import contact_sheet, write_image
from bifpn_jax.models.detector import EfficientDet, make_anchors
from bifpn_jax.recipe import building
from bifpn_jax.recipe.checks import check_config
from bifpn_jax.runs.starting_weights import with_settings_of_weights

_COLUMNS, _CELL = 3, 640

Batch = dict[str, np.ndarray]
# For every image, boxes [D, 4] and labels [D] beyond `max_boxes`.
Dropped = list[tuple[np.ndarray, np.ndarray]]


class _Place(NamedTuple):
    """The position of an image in its dataset, and its name."""

    index: int
    image_id: int
    name: str

    @property
    def caption(self) -> str:
        """The name, or the id if the pictures' font cannot write it."""
        return self.name if lettering.can_write(self.name) else f"image id {self.image_id}"


def inspect(config: ConfigDict, source: Source, output: Path, num_images: int = 12) -> str:
    """Draw the first training images into the folder ``output``; return the report.

    Args:
        config: config of the run.
        source: its training data.
        output: folder for annotated.jpg, augmented.jpg and matched.jpg.
        num_images: number of images to draw, capped at the number of images in the data.
    """
    model = building.model(config, source.label_map)
    anchors = make_anchors(model, model.image_hw)
    truth = source.ground_truth()
    threshold = config.loss.iou_threshold
    report = data_report(truth, anchors, model.image_hw, config.data.max_boxes, threshold)
    num_images = min(num_images, len(source))
    batch = first_training_images(config, model, source, num_images)
    dropped = dropped_boxes(config, model, source, batch)
    places = _find(batch["image_id"].tolist(), source, truth["images"])
    records = [source[place.index] for place in places]
    names = source.label_map.names
    which = _which_images(config, num_images)
    pictures = {
        "annotated": (
            [annotated_picture(record, names, side=_CELL) for record in records],
            [_count_annotated(record) for record in records],
            f"annotated: {which}, with the boxes that the data gives, in the colours of their "
            "classes; dashed: crowds, which are not trained on",
        ),
        "augmented": (
            augmented_pictures(batch, names, dropped=dropped, side=_CELL),
            [_count_augmented(batch, row) for row in range(num_images)],
            f"augmented: {which}, as the network gets them, with the boxes that are trained on; "
            f"dashed: boxes dropped because the image has more than max_boxes="
            f"{config.data.max_boxes}",
        ),
        "matched": (
            matched_pictures(batch, anchors, threshold, side=_CELL),
            [_count_augmented(batch, row) for row in range(num_images)],
            f"matched: {which}, with a colour per box (thick) and its anchors (thin); the number "
            f"is that of the anchors that learn the box: those with IoU ≥ {threshold:g}, and the "
            "best one, whose IoU stands beside it where it is lower",
        ),
    }
    for stage, (drawn, details, title) in pictures.items():
        captions = [f"{p.caption}\n{detail}" for p, detail in zip(places, details, strict=True)]
        sheet = contact_sheet(drawn, _COLUMNS, cell=_CELL, captions=captions, title=title)
        write_image(output / f"{stage}.jpg", sheet)
    left_out = [f"skipped image {image.image_id}: {image}" for image in source.left_out]
    drawn = f"drawn: {which}: " + ", ".join(place.name for place in places)
    return "\n".join([source.summary(), *left_out, "", str(report), "", drawn])


def first_training_images(
    config: ConfigDict, model: EfficientDet, source: Source, num_images: int
) -> Batch:
    """Return the first rows of a run's batches, joined, with all fields of `train_batches`."""
    batches = building.training_batches(config, model, source)
    found: list[Batch] = []
    while sum(len(batch["mask"]) for batch in found) < num_images:
        found.append(next(batches))
    return {key: np.concatenate([batch[key] for batch in found])[:num_images] for key in found[0]}


def dropped_boxes(
    config: ConfigDict, model: EfficientDet, source: Source, batch: Mapping[str, np.ndarray]
) -> Dropped:
    """Return each image's boxes beyond ``config.data.max_boxes`` in `first_training_images`."""
    more = int(batch["dropped_boxes"].max())
    if not more:
        return [(np.zeros((0, 4), np.float32), np.zeros(0, np.int32))] * len(batch["mask"])
    # The same images again with room for all boxes; nothing random depends on `max_boxes`.
    roomy = config.copy_and_resolve_references()
    roomy.data.max_boxes = config.data.max_boxes + more
    whole = first_training_images(roomy, model, source, len(batch["mask"]))
    return [
        _without(
            (whole["boxes"][row], whole["labels"][row]), (batch["boxes"][row], batch["labels"][row])
        )
        for row in range(len(batch["mask"]))
    ]


def _without(
    whole: tuple[np.ndarray, np.ndarray], part: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes and labels of a padded list that are not in a sublist of the same order."""
    (boxes, labels), (kept_boxes, kept_labels) = whole, part
    left, next_kept = [], 0
    for index in np.flatnonzero(labels >= 0).tolist():
        is_kept = (
            next_kept < np.count_nonzero(kept_labels >= 0)
            and labels[index] == kept_labels[next_kept]
            and np.array_equal(boxes[index], kept_boxes[next_kept])
        )
        if is_kept:
            next_kept += 1
        else:
            left.append(index)
    return boxes[left], labels[left]


def _find(ids: Sequence[int], source: Source, images: Sequence[Mapping[str, Any]]) -> list[_Place]:
    """Return the places of images in a source, by their ids."""
    row_of = {image["id"]: row for row, image in enumerate(images)}
    places = []
    for image_id in ids:
        row = row_of[image_id]
        index = _index_of(image_id, row, source, len(images))
        places.append(_Place(index, image_id, _name(images[row], source)))
    return places


def _index_of(image_id: int, row: int, source: Source, num_images: int) -> int:
    """Return the index of an image from its row in the ground truth, which has no bad images."""
    if num_images == len(source):
        return row
    for index in range(row, row + len(source) - num_images + 1):
        try:
            if source[index].image_id == image_id:
                return index
        except BadImageError:
            continue
    raise AssertionError(f"image {image_id} is not at its place in {source.name}")


def _name(image: Mapping[str, Any], source: Source) -> str:
    """Return the name of an image: its file, or its id if the data has no file names."""
    name = str(image["file_name"])
    has_none = name.startswith(f"{source.name}, record ")
    return f"image id {image['id']}" if has_none else name


def _which_images(config: ConfigDict, num_images: int) -> str:
    size = config.train.batch_size
    batches = -(-num_images // size)
    where = f"batch 1 of {size}" if batches == 1 else f"batches 1-{batches} of {size} each"
    return (
        f"the first {'image' if num_images == 1 else f'{num_images} images'} of training "
        f"({where}, seed {config.seed})"
    )


def _count_annotated(record: Record) -> str:
    crowds = int(record.is_crowd.sum())
    height, width = record.original_hw or (0, 0)
    size = f"{width}x{height}, " if height else ""
    return f"{size}{_plural(len(record.boxes) - crowds, 'box', 'boxes')}" + (
        f", {_plural(crowds, 'crowd', 'crowds')}" if crowds else ""
    )


def _count_augmented(batch: Mapping[str, np.ndarray], row: int) -> str:
    text = _plural(int((batch["labels"][row] >= 0).sum()), "box", "boxes")
    if batch["dropped_boxes"][row]:
        text += f", {batch['dropped_boxes'][row]} dropped"
    if batch["skipped_id"][row] != NONE_SKIPPED:
        text += f", in place of bad image {batch['skipped_id'][row]}"
    return text


def _plural(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


FLAG_NAMES = {"trust_code": "trust_code"}


def define_flags() -> None:
    """Define the flags of this command."""
    command.define_config_flag()
    define_download_flag()
    define_trust_flag()
    flags.DEFINE_string("output", "runs/inspect_data", "Folder for the pictures.")
    flags.DEFINE_integer("images", 12, "How many images to draw.", lower_bound=1)


def main(_: list[str]) -> None:
    """Run the command."""
    config = flags.FLAGS.config
    check_config(config)
    output = command.make_folder(flags.FLAGS.output)
    ask_before_download(config.data, flags.FLAGS.download)
    try:
        config = with_settings_of_weights(config, trust_code=flags.FLAGS.trust_code)
    except UserError as error:  # Images can be inspected without the weights.
        names = flags_of_fields(config) | flags_of_names(FLAG_NAMES)
        reason = in_flags(str(error), names)
        print(f"note: the model's settings are those of the config, for {reason}")
    report = inspect(config, building.source(config, "train"), output, flags.FLAGS.images)
    print(f"{report}\n\npictures in {output}: annotated.jpg, augmented.jpg, matched.jpg")
