"""The interface of what writes a trained detector in a format."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bifpn_jax.trained.detector import Detector


class Exporter(NamedTuple):
    """A format that a detector can be written in; one's own is `NAME = Exporter(".npz", write)`.

    Attributes:
        ending: of the file's name, such as ".npz"; "" for any.
        write: called as write(detector, path), writes the file. The path has the ending and lies in
            a folder that exists; a file that is there is replaced. If a format has more than one
            file, the others lie beside it, under the same name with other endings. What cannot be
            written is a `UserError`. It has all that the detector is: `detector.model`, whose
            `apply(variables, images)` takes images [B, H, W, 3] with the model's `image_hw`,
            `mean_rgb` and `std_rgb`; `detector.variables`; `detector.label_map` with class names
            and category ids; `detector.antialias`, for resizing; and `detector.postprocessing`, the
            arguments of `bifpn_jax.postprocess`. `bifpn_jax.inference.predict_step` puts them
            together. Packages that only it needs are imported inside.
    """

    ending: str
    write: Callable[[Detector, Path], None]
