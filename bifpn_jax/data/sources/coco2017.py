"""COCO 2017 as our own TFDS dataset: downloaded, and prepared as array_record without TensorFlow.

TFDS's own builder needs TensorFlow and truncates areas to whole pixels, which moves objects across
COCO's size limits. This one keeps areas, boxes, crowds, image, annotation and category ids as they
are in the annotation files. Images are read from the downloaded archives, which are not unpacked.
"""

import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from etils import epath

from bifpn_jax.data.coco.coco_categories import COCO
from bifpn_jax.data.coco.coco_file import (
    CocoImages,
    read_annotation_file,
    read_categories,
    read_images,
)
from bifpn_jax.data.coco.coco_objects import CocoObjects, read_objects
from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.data.records import Record
from bifpn_jax.data.sources.source_settings import SourceSettings
from bifpn_jax.data.sources.tfds_folder import tfds_dir
from bifpn_jax.data.sources.tfds_schema import detection_features, to_example
from bifpn_jax.data.sources.tfds_set import TfdsRecords, open_prepared
from bifpn_jax.errors import UserError

URL = "http://images.cocodataset.org/"
# Archive -> size in bytes. http://cocodataset.org/#download
ARCHIVES = {
    "zips/train2017.zip": 19_336_861_798,
    "zips/val2017.zip": 815_585_330,
    "annotations/annotations_trainval2017.zip": 252_907_541,
}
_PREPARED_BYTES = 20_200_000_000  # the images once more, with their annotations
_ANNOTATIONS = "annotations/annotations_trainval2017.zip"

# The alternative that every error here suggests, to end a sentence.
INSTEAD = (
    "use a local copy: source=coco_json train_images=DIR "
    "train_annotations=FILE eval_images=DIR "
    "eval_annotations=FILE bad_boxes=skip; or train on drawn images: "
    "source=shapes"
)


class Coco2017(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of COCO 2017's objects: "train" (118,287 images) and "validation" (5,000)."""

    VERSION = tfds.core.Version("1.0.0")
    # To find it, TFDS would import a package that it does not require on current Python versions.
    code_path = epath.Path(__file__)

    def _info(self) -> tfds.core.DatasetInfo:
        # Shuffling stays on: without it TFDS sorts a split in memory, and this one has 19 GB.
        return tfds.core.DatasetInfo(
            builder=self,
            description="COCO 2017 object detection, with the areas and crowds of the original.",
            homepage="https://cocodataset.org",
            features=detection_features(COCO.names),
            metadata=tfds.core.MetadataDict({"category_ids": list(COCO.category_ids)}),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        archives = dl_manager.download({name: URL + name for name in ARCHIVES})
        return {
            split: self._generate_examples(archives, name)
            for split, name in (("train", "train2017"), ("validation", "val2017"))
        }

    def _generate_examples(
        self, archives: dict[str, Path], name: str
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        with zipfile.ZipFile(archives[_ANNOTATIONS]) as annotations:
            file = zipfile.Path(annotations, f"annotations/instances_{name}.json")
            label_map, images, objects = _read_annotations(file)
        if label_map != COCO:
            raise UserError(f"{file}: these are not COCO's 80 categories; {INSTEAD}")
        with zipfile.ZipFile(archives[f"zips/{name}.zip"]) as archive:
            for row, file_name in enumerate(images.names):
                own = slice(objects.first[row], objects.first[row + 1])
                record = Record(
                    image_id=int(images.ids[row]),
                    encoded=archive.read(f"{name}/{file_name}"),
                    where=file_name,
                    boxes=objects.yxyx[own],
                    labels=objects.labels[own],
                    is_crowd=objects.is_crowd[own],
                    area=objects.area[own],
                    original_hw=tuple(images.hw[row].tolist()),
                )
                annotations = objects.entries(own, record.image_id, label_map)
                yield record.image_id, to_example(record, annotations)


def open_split(settings: SourceSettings) -> TfdsRecords:
    """Open one part of COCO, downloading it first if it is missing."""
    return open_prepared(prepare_coco2017(settings.data_dir), settings)


def download_plan(data_dir: str | Path | None = None) -> str | None:
    """Return what would be downloaded and where to, in one line; None if COCO is prepared."""
    builder = _builder(data_dir)
    if builder.data_path.exists():
        return None
    sizes = ", ".join(f"{Path(name).name} {size / 1e9:.1f} GB" for name, size in ARCHIVES.items())
    root = tfds_dir(data_dir)
    return (
        f"COCO 2017 is not in {root} yet: {sizes} will be downloaded from {URL} to "
        f"{root / 'downloads'} and prepared as {_PREPARED_BYTES / 1e9:.0f} GB in "
        f"{builder.data_path} ({_free_bytes(root) / 1e9:.0f} GB are free)."
    )


def prepare_coco2017(data_dir: str | Path | None = None) -> str:
    """Download and prepare COCO 2017 if it is missing, and return its TFDS name.

    Raises:
        UserError: there is too little space, or the download fails; it says what to do instead.
    """
    builder = _builder(data_dir)
    if not builder.data_path.exists():
        root = tfds_dir(data_dir)
        needed = sum(ARCHIVES.values()) + _PREPARED_BYTES
        if _free_bytes(root) < needed:
            raise UserError(
                f"{root}: COCO 2017 needs {needed / 1e9:.0f} GB and {_free_bytes(root) / 1e9:.0f} "
                "GB are free",
                f"name a larger place with data_dir=DIR, or {INSTEAD}",
            )
        _check_server()
        try:
            builder.download_and_prepare()
        except zipfile.BadZipFile as error:
            raise UserError(
                f"COCO 2017: a downloaded archive is damaged ({error}); delete "
                f"{root / 'downloads' / 'coco2017'} and start again, or {INSTEAD}"
            ) from error
        except (OSError, tfds.download.util.DownloadError) as error:
            raise UserError(f"COCO 2017 could not be downloaded ({error})", INSTEAD) from error
    return f"coco2017:{Coco2017.VERSION}"


def _builder(data_dir: str | Path | None) -> Coco2017:
    return Coco2017(data_dir=str(tfds_dir(data_dir)), file_format="array_record")


def _check_server() -> None:
    """Request every archive once, with a timeout, which TFDS's downloader lacks."""
    for name in ARCHIVES:
        request = urllib.request.Request(URL + name, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=20):
                continue
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"status {error.code}"
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
        raise UserError(
            f"COCO 2017 cannot be downloaded: {URL}{name} is not available ({reason})", INSTEAD
        )


def _free_bytes(folder: Path) -> int:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def _read_annotations(file: Any) -> tuple[LabelMap, CocoImages, CocoObjects]:
    content = read_annotation_file(file, "data_dir")
    label_map = read_categories(file, content["categories"])
    images = read_images(file, content["images"])
    # A few boxes in COCO have no area; they are skipped, as in the published recipe.
    objects = read_objects(file, content["annotations"], images, label_map, bad_boxes="clip")
    return label_map, images, objects
