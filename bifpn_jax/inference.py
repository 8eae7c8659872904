"""From images to detections: the prediction step, and a detector for one image at a time."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bifpn_jax.data.augment.placing import letterbox_image
from bifpn_jax.errors import UserError
from bifpn_jax.models.detector import EfficientDet, make_anchors
from bifpn_jax.postprocessing import Detections, postprocess

Array = jax.Array

# The fields of a batch that the prediction step reads; the others stay on the host.
PREDICT_FIELDS = ("image", "content_hw", "original_hw", "scale")


def normalize_images(
    images: Array, content_hw: Array, mean_rgb: tuple[float, ...], std_rgb: tuple[float, ...]
) -> Array:
    """Normalise uint8 images [B, H, W, 3]: (x - mean) / std, exactly 0 beyond the content.

    Args:
        images: 0..255.
        content_hw: [B, 2], height and width of the content at the top-left of each frame.
        mean_rgb: per channel, in units of 0..255.
        std_rgb: per channel, in units of 0..255.
    """
    mean = jnp.asarray(mean_rgb, jnp.float32)[None, None, None]
    std = jnp.asarray(std_rgb, jnp.float32)[None, None, None]
    _, height, width, _ = images.shape
    inside_y = jnp.arange(height)[None] < content_hw[:, :1]  # [B, H]
    inside_x = jnp.arange(width)[None] < content_hw[:, 1:]  # [B, W]
    inside = inside_y[:, :, None] & inside_x[:, None, :]
    return jnp.where(inside[..., None], (images.astype(jnp.float32) - mean) / std, 0.0)


def predict_step(
    variables: dict[str, Any],
    batch: dict[str, Array],
    *,
    model: EfficientDet,
    anchors: np.ndarray,
    **postprocessing: Any,
) -> Detections:
    """Return detections [B, D, …] in pixels of the original files. Pure: no jit, no devices.

    Args:
        variables: {"params", "batch_stats"}.
        batch: `PREDICT_FIELDS` from the data pipeline.
        model: the network.
        anchors: [A, 4] for the batch's image size.
        **postprocessing: arguments of `postprocess`.
    """
    images = normalize_images(batch["image"], batch["content_hw"], model.mean_rgb, model.std_rgb)
    outputs = model.apply(variables, images, train=False)
    return postprocess(
        outputs.class_logits,
        outputs.box_codes,
        jnp.asarray(anchors),
        batch["original_hw"],
        batch["scale"],
        **postprocessing,
    )


class ImageDetections(NamedTuple):
    """The detections in one image, best first, as numpy arrays.

    Attributes:
        boxes: [D, 4] float32, [y0, x0, y1, x1] in pixels of the given image, inside it.
        scores: [D] float32 in (0, 1].
        labels: [D] int32 in 0 .. K-1.
        names: D class names.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: list[str]


def make_detector(
    model: EfficientDet,
    variables: dict[str, Any],
    *,
    class_names: Sequence[str] | None = None,
    image_hw: tuple[int, int] | None = None,
    antialias: bool = False,
    score_threshold: float = 0.05,
    **postprocessing: Any,
) -> Callable[[np.ndarray], ImageDetections]:
    """Make a function that detects objects in an image of any size.

    It is compiled at the first call, once for all image sizes.

    Args:
        model: the network.
        variables: {"params", "batch_stats"}.
        class_names: name per label; by default the label's number.
        image_hw: size of the network's input; by default the model's own.
        antialias: how the image is resized, see `data.augment.placing.resize`.
        score_threshold: detections with lower scores are dropped.
        **postprocessing: further arguments of `postprocess`, e.g. `nms_method="gaussian"`.

    Returns:
        detect(image [H, W, 3] uint8, RGB) -> `ImageDetections`.

    Raises:
        UserError: the number of names is not the model's number of classes, or, from `detect`, the
            array is not an image.
    """
    if class_names is None:
        class_names = [str(label) for label in range(model.num_classes)]
    if len(class_names) != model.num_classes:
        raise UserError(
            f"class_names has {len(class_names)} names but the model has {model.num_classes} "
            "classes: give one name per label."
        )
    frame_hw = tuple(image_hw or model.image_hw)
    step = jax.jit(
        partial(
            predict_step,
            model=model,
            anchors=make_anchors(model, frame_hw),
            score_threshold=score_threshold,
            **postprocessing,
        )
    )
    variables = jax.tree.map(jnp.asarray, variables)

    def detect(image: np.ndarray) -> ImageDetections:
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise UserError(
                f"an image must be a uint8 array [H, W, 3] in RGB, this one is {image.dtype} "
                f"{list(image.shape)}: convert it first."
            )
        framed, content_hw, scale = letterbox_image(image, frame_hw, antialias)
        batch = {
            "image": framed[None],
            "content_hw": np.array([content_hw], np.int32),
            "original_hw": np.array([image.shape[:2]], np.int32),
            "scale": np.array([scale], np.float32),
        }
        found = jax.device_get(step(variables, batch))
        kept = found.labels[0] >= 0
        labels = found.labels[0][kept]
        names = [class_names[label] for label in labels]
        return ImageDetections(found.boxes[0][kept], found.scores[0][kept], labels, names)

    return detect
