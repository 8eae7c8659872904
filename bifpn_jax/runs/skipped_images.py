"""The bad images that a run skips: counted over all processes, reported at its end, and listed.

`skipped_images.txt` in the workdir has a line for each: the part of the data, the image's id, and
what is wrong with it or, if that was not known before, what was done about it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bifpn_jax.data.pipeline import skipped_ids
from bifpn_jax.data.records import Source
from bifpn_jax.errors import UserError
from bifpn_jax.json_files import replace_text
from bifpn_jax.train import exchange

SKIPPED_FILE = "skipped_images.txt"
_NAMED = 10  # ids in a line


class SkippedImages:
    """The bad images of a run: those that were skipped from the start, and those found later."""

    def __init__(self, train: Source, evaluation: Source) -> None:
        """Collect the images that the sources skipped.

        Args:
            train: the training data.
            evaluation: the evaluation data.

        Raises:
            UserError: another process found other images bad, and so would read other batches.
        """
        self._left_out = {"train": tuple(train.left_out), "eval": tuple(evaluation.left_out)}
        with exchange.together():
            self._check_everywhere()
        self._replaced: set[int] = set()
        self._not_evaluated: set[int] = set()
        self._new: list[int] = []

    @property
    def replaced(self) -> list[int]:
        """Ids of the images that were replaced by others, as of the last `share`."""
        return sorted(self._replaced)

    def note(self, batch: Mapping[str, np.ndarray]) -> None:
        """Record the images that a training batch of this process skips."""
        self._new += skipped_ids(batch)

    def note_replaced(self, image_ids: Sequence[int]) -> None:
        """Record images that a resumed run had already replaced, over all processes."""
        self._replaced.update(image_ids)

    def note_evaluation(self, image_ids: Sequence[int]) -> None:
        """Record the images that could not be evaluated, over all processes."""
        self._not_evaluated.update(image_ids)

    def share(self) -> None:
        """Share the records of this process with the others; all of them must call it."""
        self._replaced.update(exchange.gather_rows(sorted(set(self._new))))
        self._new.clear()

    def summary(self) -> str:
        """Return one line about all bad images, "" if there are none."""
        groups = (
            (
                "skipped in the training data",
                [image.image_id for image in self._left_out["train"]],
            ),
            (
                "skipped in the evaluation data",
                [image.image_id for image in self._left_out["eval"]],
            ),
            ("replaced by the next good one in training", self.replaced),
            ("not evaluated", sorted(self._not_evaluated)),
        )
        told = [f"{len(ids)} {what} (ids {_some(ids)})" for what, ids in groups if ids]
        return f"bad images: {'; '.join(told)}; all are in {SKIPPED_FILE}" if told else ""

    def write(self, workdir: Path) -> None:
        """Write the file, if there is anything to write."""
        lines = [
            f"{part}\t{image.image_id}\tleft out: {image}"
            for part, images in self._left_out.items()
            for image in images
        ]
        lines += [f"train\t{i}\treplaced by the next good image" for i in self.replaced]
        lines += [f"eval\t{i}\tnot evaluated" for i in sorted(self._not_evaluated)]
        if lines:
            replace_text(workdir / SKIPPED_FILE, "\n".join(lines) + "\n")

    def _check_everywhere(self) -> None:
        here: dict[str, Any] = {
            part: [image.image_id for image in images] for part, images in self._left_out.items()
        }
        for part, ids in exchange.from_primary(lambda: here).items():
            if different := set(ids) ^ set(here[part]):
                raise UserError(
                    f"image {min(different)} of the {part} data is bad for one process and good "
                    "for another: give all hosts the same files."
                )


def _some(ids: Sequence[int]) -> str:
    return ", ".join([*map(str, ids[:_NAMED]), *["…"] * (len(ids) > _NAMED)])
