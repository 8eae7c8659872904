"""A folder of images with a COCO JSON, read directly, without conversion."""

from pathlib import Path

from bifpn_jax.data.coco.coco_file import read_annotation_file
from bifpn_jax.data.sources.annotated_images import AnnotatedImages
from bifpn_jax.data.sources.source_settings import SourceSettings


def open_split(settings: SourceSettings) -> "CocoJson":
    """Open the folder and the file of one part."""
    settings.need_files("coco_json")
    return CocoJson(
        settings.images,
        settings.annotations,
        bad_boxes=settings.bad_boxes,
        bad_images=settings.bad_images,
        split=settings.split,
    )


class CocoJson(AnnotatedImages):
    """The records of a COCO annotation file; see ``AnnotatedImages``."""

    def __init__(
        self,
        images: str | Path,
        annotations: str | Path,
        *,
        bad_boxes: str = "error",
        bad_images: str = "error",
        split: str = "train",
    ) -> None:
        """Open the dataset and check it.

        Args:
            images: the folder of the image files.
            annotations: the COCO JSON.
            bad_boxes: "error", "skip" or "clip"; see ``read_objects``.
            bad_images: "error" or "skip"; see ``check_images``.
            split: "train" or "eval", for the names of the settings in messages.

        Raises:
            UserError: anything is wrong with the folder, the file or an image.
        """
        super().__init__(
            images,
            read_annotation_file(Path(annotations), f"{split}_annotations"),
            name=str(annotations),
            bad_boxes=bad_boxes,
            bad_images=bad_images,
            split=split,
        )
