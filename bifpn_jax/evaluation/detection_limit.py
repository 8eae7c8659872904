"""Whether the images of an evaluation hold more objects than detections that count."""

from bifpn_jax.data.pipeline import count_crowded_images
from bifpn_jax.data.records import Source


def limit_warning(source: Source, max_detections: int, setting: str = "eval.max_detections") -> str:
    """One line where objects cannot be found because there are too few detections, else "".

    COCO's evaluation takes up to ``max_detections`` per image and class, but the postprocessing
    keeps as many per image, of all classes together. Crowds need not be found.

    Args:
        source: what is evaluated on; of one that does not know its numbers of boxes, nothing is
            said.
        max_detections: of the postprocessing and the evaluation.
        setting: what sets it, for the message.
    """
    counted = count_crowded_images(source, max_detections)
    if counted is None or not counted[0]:
        return ""
    number, most = counted
    return (
        f"{number} images to evaluate have more than {setting}={max_detections} objects (up to "
        f"{most}), which cannot all be found; raise {setting} to {most} to make it possible"
    )
