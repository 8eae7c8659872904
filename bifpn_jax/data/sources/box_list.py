"""A source made from a list of boxes, for adding a custom format in a few lines.

This opens a file of lines "file,x0,y0,x1,y1,class", as ``source=FILE.py:open_csv``:

    import csv
    from bifpn_jax.data.sources.box_list import LabelledBox, source_of_boxes

    def open_csv(settings):
        settings.need_files("csv")
        boxes = []
        with open(settings.annotations, newline="") as file:
            for row in csv.DictReader(file):
                box = [float(row[side]) for side in ("y0", "x0", "y1", "x1")]
                boxes.append(LabelledBox(row["file"], box, row["class"]))
        return source_of_boxes(settings, boxes, class_names=["cat", "dog"])
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bifpn_jax.data.sources.annotated_images import AnnotatedImages
from bifpn_jax.data.sources.source_settings import SourceSettings
from bifpn_jax.errors import UserError


class LabelledBox(NamedTuple):
    """A box in an image.

    Attributes:
        file: the image, relative to the image folder.
        box: y0, x0, y1, x1 in pixels of the image after EXIF rotation.
        class_name: the class of the object in the box.
        is_crowd: whether the box is around a group: not trained on, ignored in evaluation.
    """

    file: str
    box: Sequence[float]
    class_name: str
    is_crowd: bool = False


def source_of_boxes(
    settings: SourceSettings,
    boxes: Iterable[LabelledBox],
    class_names: Sequence[str],
    empty: Iterable[str] = (),
) -> AnnotatedImages:
    """Make a source from boxes, with all the checks of a COCO file.

    In messages, annotation n is the n-th box. Images are numbered from 1 in the order of their
    first box, categories in the order of the names.

    Args:
        settings: the image folder, the file that messages name, and what to do about bad images
            and boxes.
        boxes: the boxes, in any order.
        class_names: the classes, the same for both parts of a dataset.
        empty: files of images without objects.

    Raises:
        UserError: a class is not among the names, or an image or a box is bad.
    """
    category_of = {name: number for number, name in enumerate(class_names, start=1)}
    image_of: dict[str, int] = {}
    annotations = []
    for number, (file, box, class_name, is_crowd) in enumerate(boxes, start=1):
        if class_name not in category_of:
            raise UserError(
                f"{settings.annotations}: box {number} ({file}) is of the class {class_name!r}, "
                f"which is not among {', '.join(class_names)}; correct it or add the class"
            )
        y0, x0, y1, x1 = map(float, box)
        annotations.append(
            {
                "id": number,
                "image_id": image_of.setdefault(file, len(image_of) + 1),
                "category_id": category_of[class_name],
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "iscrowd": int(is_crowd),
            }
        )
    for file in empty:
        image_of.setdefault(file, len(image_of) + 1)
    content = {
        "images": [{"id": number, "file_name": file} for file, number in image_of.items()],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in category_of.items()],
    }
    return AnnotatedImages(
        settings.images,
        content,
        name=str(settings.annotations),
        bad_boxes=settings.bad_boxes,
        bad_images=settings.bad_images,
        split=settings.split,
    )
