"""Checks whether images contain more objects than the number of detections that count."""

from bifpn_jax.data.pipeline import count_crowded_images
from bifpn_jax.data.records import Source


def limit_warning(source: Source, max_detections: int, setting: str = "eval.max_detections") -> str:
    """Return a warning if there are more objects than detections, so that some are missed; or "".

    COCO's evaluation takes up to ``max_detections`` per image and class, but the post-processing
    keeps as many per image over all classes. Crowds need not be found.

    Args:
        source: the evaluation data; if it does not know its numbers of boxes, there is no warning.
        max_detections: the limit of the post-processing and the evaluation.
        setting: name of the setting, for the message.
    """
    counted = count_crowded_images(source, max_detections)
    if counted is None or not counted[0]:
        return ""
    number, most = counted
    return (
        f"{number} images to evaluate have more than {setting}={max_detections} objects (up to "
        f"{most}), which cannot all be found; raise {setting} to {most} to make it possible"
    )
