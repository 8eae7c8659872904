"""Finds objects in images and draws them.

    bifpn predict --model=d0 --weights=runs/d0 --output=runs/d0/pictures IMAGE...

IMAGE is a file, a folder of images, or a glob in quotes; --eval_images=12 takes the first images
of the run's evaluation data. The output folder gets a picture of every image, with boxes, class
names and scores, under the image's name (as .png if it is neither .jpg nor .png, and with -2, -3 …
if a name is repeated), and detections.json in COCO's results format. There the images are numbered
from 1 in the given order, and every detection has three more keys: ``file_name``, the image;
``picture``, its drawing; ``category_name``, the class.

A file that is not an image gets a line on stderr and keeps its number; the others are processed,
and the exit status is 2. Unused parts of images, such as additional pages, are reported at the
end, on stderr.
"""

import dataclasses
import glob
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from tqdm import tqdm

from bifpn_jax.command_line import command, trained_model
from bifpn_jax.command_line.download_consent import define_download_flag
from bifpn_jax.command_line.flag_names import flags_of_names, in_flags
from bifpn_jax.command_line.own_data import own_eval_source
from bifpn_jax.data.images.image_file import read_image_file
from bifpn_jax.data.images.image_remarks import add_up, image_remarks
from bifpn_jax.data.records import Record, decode_image, load_image
from bifpn_jax.errors import UserError
from bifpn_jax.evaluation.results import coco_results, write_detections
from bifpn_jax.inference import ImageDetections
from bifpn_jax.inspection.pictures import draw_boxes, write_image, zoom_for
from bifpn_jax.postprocessing import Detections
from bifpn_jax.runs.compile_keys import evaluation_key
from bifpn_jax.runs.waiting import waits_on_terminal
from bifpn_jax.trained import Detector

# Suffixes of images in a folder; a file that is named directly may have any name.
_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
_DRAWN = (".jpg", ".jpeg", ".png")


class Image(NamedTuple):
    """An image that has not been read yet.

    Attributes:
        file_name: what to call it.
        read: returns it as [H, W, 3] uint8, RGB.
    """

    file_name: str
    read: Callable[[], np.ndarray]


# File names of images that were read, and remarks about each.
Remarks = list[tuple[str, list[str]]]


def find_images(words: Sequence[str], remarks: Remarks | None = None) -> list[Image]:
    """Return the image files that words name, each once, in the order of the words.

    Args:
        words: files, folders (the images directly in them) or globs.
        remarks: receives remarks about each image when it is read.

    Raises:
        UserError: a word names nothing.
    """
    files = dict.fromkeys(file for word in words for file in _files_of(word))
    return [Image(str(file), partial(_read_file, file, remarks)) for file in files]


def eval_images(
    detector: Detector, count: int, *, agreed: bool = False, remarks: Remarks | None = None
) -> list[Image]:
    """Return the first images of the evaluation data of a detector's run.

    Args:
        detector: the detector.
        count: number of images; fewer if there are fewer.
        agreed: whether COCO 2017 may be downloaded without asking.
        remarks: receives remarks about each image when it is read.
    """
    source = own_eval_source(
        trained_model.run_config(detector),
        len(detector.label_map),
        agreed=agreed,
        instead="name images in the place of --eval_images",
    )
    records = (source[i] for i in range(min(count, len(source))))
    return [Image(record.where, partial(_read_record, record, remarks)) for record in records]


def picture_names(file_names: Sequence[str]) -> list[str]:
    """Return a distinct name for the picture of each file, even on case-insensitive systems."""
    taken: set[str] = set()
    names = []
    for file in map(Path, file_names):
        suffix = file.suffix if file.suffix.lower() in _DRAWN else ".png"
        name, number = f"{file.stem}{suffix}", 1
        while name.lower() in taken:
            number += 1
            name = f"{file.stem}-{number}{suffix}"
        taken.add(name.lower())
        names.append(name)
    return names


def predict_images(
    detector: Detector,
    images: Sequence[Image],
    output: Path,
    *,
    score: float = 0.4,
    min_score: float = 0.05,
    progress: bool = False,
    on_bad: Callable[[UserError], object] | None = None,
) -> list[dict[str, Any]]:
    """Detect in every image and write a picture of it and detections.json into a folder.

    Args:
        detector: the detector.
        images: the images.
        output: the folder.
        score: minimum score of boxes that are drawn.
        min_score: minimum score of detections in the file.
        progress: whether to print a line per image.
        on_bad: called with the error of a file that is not an image; by default it is raised.

    Returns:
        The content of detections.json.

    Raises:
        UserError: a file is not an image and there is no `on_bad`, or a picture would overwrite an
            image.
    """
    names = picture_names([image.file_name for image in images])
    inputs = {Path(image.file_name).resolve() for image in images}
    for name in names:
        if (output / name).resolve() in inputs:
            raise UserError(
                f"{output / name} is one of the images and would be overwritten; name another "
                "--output."
            )
    detector = dataclasses.replace(detector, score_threshold=min(score, min_score))
    key = evaluation_key(trained_model.run_config(detector))
    detect = waits_on_terminal().first("compiling the model", detector, key=key)
    results = []
    for index in tqdm(range(len(images)), unit="img", disable=None if progress else True):
        file_name, name = images[index].file_name, names[index]
        try:
            image = images[index].read()
        except UserError as error:
            if on_bad is None:
                raise
            on_bad(error)
            continue
        found = detect(image)
        drawn = found.scores >= score
        picture = draw_boxes(
            image,
            found.boxes[drawn],
            found.labels[drawn],
            detector.class_names,
            found.scores[drawn],
            zoom=zoom_for(image),
        )
        write_image(output / name, picture)
        if progress:
            tqdm.write(f"{file_name}: {_summary(found, drawn)}")
        kept = found.scores >= min_score
        entries = coco_results(
            index + 1,
            Detections(found.boxes[kept], found.scores[kept], found.labels[kept]),
            detector.label_map,
        )
        for entry, label in zip(entries, found.labels[kept].tolist(), strict=True):
            entry["file_name"] = file_name
            entry["picture"] = name
            entry["category_name"] = detector.class_names[label]
        results += entries
    write_detections(output / "detections.json", results)
    return results


def _read_file(file: Path, remarks: Remarks | None) -> np.ndarray:
    encoded = read_image_file(file)
    image = decode_image(encoded, str(file), thorough=True)
    _remark(remarks, str(file), encoded, image)
    return image


def _read_record(record: Record, remarks: Remarks | None) -> np.ndarray:
    image = load_image(record)
    _remark(remarks, record.where, record.encoded, image)
    return image


def _remark(remarks: Remarks | None, where: str, encoded: bytes, image: np.ndarray) -> None:
    if remarks is not None:
        remarks.append((where, image_remarks(encoded, image)))


def _files_of(word: str) -> list[Path]:
    path = Path(word).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in _IMAGES)
        if not files:
            raise UserError(f"{word}: no image in this folder ({', '.join(_IMAGES)}).")
        return files
    if path.is_file():
        return [path]
    found = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    if not found:
        what = "nothing fits this glob" if glob.has_magic(word) else "no such image or folder"
        raise UserError(f"{word}: {what}; correct the path.")
    return [file for file in found if file.is_file()]


def _summary(found: ImageDetections, drawn: np.ndarray) -> str:
    """Return what was drawn: "2 dog, 1 cat"."""
    counts = Counter(name for name, shown in zip(found.names, drawn, strict=True) if shown)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"


def _count(images: int) -> str:
    return f"{images} image{'' if images == 1 else 's'}"


ARGUMENTS = "IMAGE"

FLAG_NAMES = trained_model.FLAG_NAMES


def define_flags() -> None:
    """Define the flags of this command."""
    trained_model.define_flags()
    define_download_flag()
    flags.DEFINE_string("output", "runs/predict", "Folder for the pictures and detections.json.")
    flags.DEFINE_integer(
        "eval_images", 0, "Number of images of the run's evaluation data to use.", lower_bound=0
    )
    flags.DEFINE_float("score", 0.4, "Minimum score of boxes that are drawn.", 0.0, 1.0)
    flags.DEFINE_float(
        "min_score", 0.05, "Minimum score of detections in detections.json.", 0.0, 1.0
    )


def main(words: list[str]) -> int:
    """Run the command; return its exit status."""
    given = flags.FLAGS
    remarks: Remarks = []
    images = find_images(words, remarks)
    if not images and not given.eval_images:
        raise UserError("no image is given; name files, folders or globs, or set --eval_images=12.")
    command.check_devices()
    output = command.make_folder(given.output)
    detector = trained_model.load_from_flags()
    print(f"weights: {detector.source}", flush=True)
    if given.eval_images:
        images += eval_images(detector, given.eval_images, agreed=given.download, remarks=remarks)
    bad: list[UserError] = []
    names = flags_of_names(FLAG_NAMES)

    def on_bad(error: UserError) -> None:
        bad.append(error)
        tqdm.write(f"error: {in_flags(str(error), names)}", file=sys.stderr)

    start = time.monotonic()
    results = predict_images(
        detector,
        images,
        output,
        score=given.score,
        min_score=given.min_score,
        progress=True,
        on_bad=on_bad,
    )
    seconds = time.monotonic() - start
    for clause in add_up(remarks):
        print(f"note: {clause}", file=sys.stderr)
    print(
        f"{_count(len(images) - len(bad))} in {seconds:.1f} s; their pictures and detections.json "
        f"({len(results)} detections with a score of at least {given.min_score:g}) are in {output}"
        + (f"; {len(bad)} more could not be read" if bad else "")
    )
    return command.FAILED if bad else 0
