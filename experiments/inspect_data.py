"""Looks at a dataset as training sees it, before any time is spent on training.

    python -m experiments.inspect_data --config=configs/d1.py --output=runs/data

prints what the data holds and how well the anchors fit its boxes, and draws the first images as
they are annotated (annotated.jpg), a batch as it is augmented (augmented.jpg) and the anchors that
the boxes of this batch are matched to (matched.jpg).
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from absl import flags

from bifpn_jax.data.pipeline import train_batches
from bifpn_jax.data.records import BadImageError, Source
from bifpn_jax.data_pictures import annotated_picture, augmented_pictures, matched_pictures
from bifpn_jax.data_report import data_report
from bifpn_jax.models.detector import make_anchors
from bifpn_jax.visualize import contact_sheet, write_image
from experiments import command, from_config
from experiments.config_checks import check_config
from experiments.download import ask_before_download, define_download_flag

_COLUMNS, _CELL = 3, 640


def inspect(
    source: Source,
    anchors: np.ndarray,
    image_hw: tuple[int, int],
    output: Path,
    *,
    max_boxes: int,
    num_images: int,
    seed: int = 0,
    jitter: tuple[float, float] = (0.1, 2.0),
    bad_images: str = "error",
) -> str:
    """Draws ``num_images`` images at each stage into the folder ``output``; returns the report."""
    report = data_report(source.ground_truth(), anchors, image_hw, max_boxes)
    num_images = min(num_images, len(source))
    names = source.label_map.names
    batches = train_batches(
        source,
        batch_size=num_images,
        image_hw=image_hw,
        max_boxes=max_boxes,
        seed=seed,
        jitter=jitter,
        bad_images=bad_images,
    )
    batch = next(batches)
    pictures = {
        "annotated": list(islice(_annotated(source, bad_images), num_images)),
        "augmented": augmented_pictures(batch, names),
        "matched": matched_pictures(batch, anchors),
    }
    for stage, drawn in pictures.items():
        write_image(output / f"{stage}.jpg", contact_sheet(drawn, _COLUMNS, cell=_CELL))
    left_out = [f"left out image {image.image_id}: {image}" for image in source.left_out]
    return "\n".join([source.summary(), *left_out, "", str(report)])


def _annotated(source: Source, bad_images: str) -> Iterator[np.ndarray]:
    """Pictures of the source's images as they are annotated, in its order."""
    for index in range(len(source)):
        try:
            yield annotated_picture(source[index], source.label_map.names)
        except BadImageError:
            if bad_images != "skip":
                raise


def main(_: list[str]) -> None:
    """Runs the command."""
    config, output = flags.FLAGS.config, Path(flags.FLAGS.output)
    check_config(config)
    ask_before_download(config.data, flags.FLAGS.download)
    source = from_config.source(config, "train")
    model = from_config.model(config, source.label_map)
    report = inspect(
        source,
        make_anchors(model, model.image_hw),
        model.image_hw,
        output,
        max_boxes=config.data.max_boxes,
        num_images=flags.FLAGS.images,
        seed=config.seed,
        jitter=tuple(config.augment.jitter),
        bad_images=config.data.bad_images,
    )
    print(f"{report}\n\npictures in {output}: annotated.jpg, augmented.jpg, matched.jpg")


if __name__ == "__main__":
    command.define_config_flag()
    define_download_flag()
    flags.DEFINE_string("output", "runs/inspect_data", "Folder for the pictures.")
    flags.DEFINE_integer("images", 12, "How many images to draw.", lower_bound=1)
    command.run(main)
