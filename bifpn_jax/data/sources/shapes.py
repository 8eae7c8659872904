"""``shapes``: a dataset that needs no download, drawn in seconds and stored as a TFDS dataset."""

import contextlib
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from etils import epath

from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.data.records import Record, annotation_entries, to_coco
from bifpn_jax.data.sources.shape_drawing import CLASSES, draw_image
from bifpn_jax.data.sources.source_settings import SourceSettings
from bifpn_jax.data.sources.tfds_folder import tfds_dir
from bifpn_jax.data.sources.tfds_schema import detection_features, to_example
from bifpn_jax.data.sources.tfds_set import TfdsRecords, open_prepared
from bifpn_jax.errors import UserError

LABEL_MAP = LabelMap(tuple(range(1, len(CLASSES) + 1)), CLASSES)


def draw_record(
    index: int,
    *,
    seed: int = 0,
    split: str = "train",
    sides: tuple[int, int] = (80, 112),
    max_shapes: int = 5,
) -> Record:
    """Draw image ``index`` of a split; the same arguments give the same record."""
    rng = np.random.default_rng((seed, {"train": 0, "validation": 1}[split], index))
    image, boxes, labels, area = draw_image(rng, sides, max_shapes)
    jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    return Record(
        image_id=index + 1,
        encoded=jpeg.tobytes(),
        where=f"{split}-{index + 1:06d}.jpg",
        boxes=boxes,
        labels=labels,
        is_crowd=np.zeros(len(boxes), bool),
        area=area,
        original_hw=image.shape[:2],
    )


def open_split(settings: SourceSettings) -> TfdsRecords:
    """Open one part of the drawn images, drawing them first if they are missing."""
    return open_prepared(prepare_shapes(settings.data_dir, **settings.shapes), settings)


class DrawnShapes:
    """A small set of shapes in memory, drawn on creation, for tests and quick trials."""

    def __init__(self, count: int, **options: Any) -> None:
        """Draw ``count`` images; options as for ``draw_record``."""
        self._records = [draw_record(i, **options) for i in range(count)]
        self.name, self.left_out = f"{count} drawn shapes images", ()
        self.label_map = LABEL_MAP

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        """Return one record."""
        return self._records[index]

    def box_counts(self) -> np.ndarray:
        """Return the number of boxes of each image: [len] int64."""
        return np.array([len(record.boxes) for record in self._records], np.int64)

    def ground_truth(self) -> dict[str, list[dict[str, Any]]]:
        """Return the content of a COCO annotation file."""
        return to_coco(self._records, self.label_map)

    def summary(self) -> str:
        """Return one line about the dataset for the log."""
        return f"{self.name}: {self.box_counts().sum()} boxes, {len(CLASSES)} classes"


@dataclasses.dataclass
class ShapesConfig(tfds.core.BuilderConfig):
    """The options that determine the images; the folder of the prepared set is named after them."""

    num_train: int = 2000
    num_eval: int = 300
    seed: int = 0
    sides: tuple[int, int] = (80, 112)
    max_shapes: int = 5


_OPTIONS = ("num_train", "num_eval", "seed", "sides", "max_shapes")


def shapes_config(**options: Any) -> ShapesConfig:
    """Return the config with the given fields changed, and a name that contains all of them."""
    for name in options:
        if name not in _OPTIONS:
            raise UserError(f"shapes: there is no option {name!r}; use {', '.join(_OPTIONS)}")
    config = ShapesConfig(name="", **options)
    pair = config.sides if isinstance(config.sides, list | tuple) else ()
    counts = (config.num_train, config.num_eval, config.seed, config.max_shapes, *pair)
    if len(pair) != 2 or not all(type(count) is int for count in counts) or config.seed < 0:
        raise UserError(
            f"shapes: the options {options} do not work; give whole numbers, two for sides and no "
            "negative seed"
        )
    low, high = config.sides
    if min(config.num_train, config.num_eval, config.max_shapes) < 1 or not 32 <= low <= high:
        raise UserError(
            f"shapes: cannot draw {config.num_train} + {config.num_eval} images of {low} to {high} "
            f"pixels with up to {config.max_shapes} shapes; set at least one of each and sides of "
            "32 pixels or more, the smaller first"
        )
    name = (
        f"{config.num_train}_{config.num_eval}_seed{config.seed}"
        f"_{low}to{high}px_max{config.max_shapes}"
    )
    return dataclasses.replace(config, name=name)


class Shapes(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the drawn images, splits "train" and "validation"."""

    VERSION = tfds.core.Version("1.0.0")
    # To find it, TFDS would import a package that it does not require on current Python versions.
    code_path = epath.Path(__file__)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Drawn overlapping shapes of four classes on textured backgrounds.",
            features=detection_features(CLASSES),
            metadata=tfds.core.MetadataDict({"category_ids": list(LABEL_MAP.category_ids)}),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        config = self.builder_config
        return {
            "train": self._generate_examples("train", config.num_train),
            "validation": self._generate_examples("validation", config.num_eval),
        }

    def _generate_examples(self, split: str, count: int) -> Iterator[tuple[int, dict]]:
        config = self.builder_config
        for i in range(count):
            record = draw_record(
                i,
                seed=config.seed,
                split=split,
                sides=tuple(config.sides),
                max_shapes=config.max_shapes,
            )
            first_id = 1 + i * config.max_shapes
            yield i, to_example(record, annotation_entries(record, LABEL_MAP, first_id))


def prepare_shapes(data_dir: str | Path | None = None, **options: Any) -> str:
    """Draw the set into the TFDS folder if it is missing, and return its TFDS name.

    Args:
        data_dir: the TFDS folder; None is TFDS's default.
        **options: fields of ``ShapesConfig``.
    """
    config = shapes_config(**options)
    root = tfds_dir(data_dir)
    try:
        with _quiet():
            builder = Shapes(data_dir=str(root), config=config, file_format="array_record")
            builder.download_and_prepare()
    except OSError as error:
        # Another process of the same run may have finished the same set first.
        if not (root / "shapes" / config.name / str(Shapes.VERSION)).exists():
            raise UserError(
                f"{root}: cannot write the drawn images here ({error.strerror or error}); name "
                "another place with data_dir=DIR"
            ) from error
    return f"shapes/{config.name}:{Shapes.VERSION}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep TFDS from reporting a download when there is none."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()
        logging.set_verbosity(verbosity)
