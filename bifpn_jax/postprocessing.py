"""Turns the outputs of the model into a fixed number of detections in the original image."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from bifpn_jax import boxes as box_ops
from bifpn_jax.errors import UserError
from bifpn_jax.nms import Kept, nms, resolve_score_threshold


class Detections(NamedTuple):
    """D detections, best first; a batch adds a leading axis. Empty slots are 0, 0 and -1."""

    boxes: jax.Array
    """[D, 4] float32: y0, x0, y1, x1 in pixels of the original image."""
    scores: jax.Array
    """[D] float32 in [0, 1]."""
    labels: jax.Array
    """[D] int32."""


class Postprocessing(NamedTuple):
    """The published settings of `postprocess`, the defaults of every detector."""

    pre_nms_top_k: int = 5000
    max_detections: int = 100
    nms_method: str = "gaussian"
    iou_threshold: float = 0.5
    sigma: float = 0.5


PUBLISHED = Postprocessing()


def check_postprocessing(
    *,
    pre_nms_top_k: int = PUBLISHED.pre_nms_top_k,
    max_detections: int = PUBLISHED.max_detections,
    nms_method: str = PUBLISHED.nms_method,
    iou_threshold: float = PUBLISHED.iou_threshold,
    sigma: float = PUBLISHED.sigma,
    **_: object,
) -> None:
    """Raise a UserError for invalid arguments of `postprocess`."""
    resolve_score_threshold(nms_method, None)
    for name, value in (("pre_nms_top_k", pre_nms_top_k), ("max_detections", max_detections)):
        if type(value) is not int or value < 1:
            raise UserError(f"{name}={value!r} must be a whole number, at least 1.")
    if not 0 <= iou_threshold <= 1:
        raise UserError(f"iou_threshold={iou_threshold!r} must be between 0 and 1.")
    if not sigma > 0:
        raise UserError(f"sigma={sigma!r} must be greater than 0.")


def postprocess(
    class_logits: jax.Array,
    box_codes: jax.Array,
    anchors: jax.Array,
    original_hw: jax.Array,
    scale: jax.Array,
    *,
    pre_nms_top_k: int = PUBLISHED.pre_nms_top_k,
    first_pairs: int = 2000,
    max_detections: int = PUBLISHED.max_detections,
    score_threshold: float | None = None,
    nms_method: str = PUBLISHED.nms_method,
    iou_threshold: float = PUBLISHED.iou_threshold,
    sigma: float = PUBLISHED.sigma,
    class_agnostic: bool = False,
) -> Detections:
    """Detect objects in a batch: top-k, decode, scale to original pixels, clip to the image, NMS.

    Args:
        class_logits: [B, A, K].
        box_codes: [B, A, 4].
        anchors: [A, 4] in network pixels.
        original_hw: [B, 2] size of the original images in pixels; boxes are clipped to them.
        scale: [B] original pixels per network pixel.
        pre_nms_top_k: number of (anchor, class) pairs that enter NMS, chosen exactly.
        first_pairs: number of pairs to try first. The scores that NMS keeps show whether the others
            could change anything, and only then all are used; results are the same.
        max_detections: D.
        score_threshold: as in :func:`bifpn_jax.nms.nms`, on sigmoid scores.
        nms_method: "hard" or "gaussian".
        iou_threshold: IoU threshold of hard NMS.
        sigma: sigma of Gaussian soft-NMS.
        class_agnostic: let boxes of different classes suppress each other.
    """
    best = functools.partial(
        _from_best_pairs,
        max_detections=max_detections,
        score_threshold=resolve_score_threshold(nms_method, score_threshold),
        method=nms_method,
        iou_threshold=iou_threshold,
        sigma=sigma,
        class_agnostic=class_agnostic,
    )

    def detect(k: int) -> tuple[Detections, jax.Array]:
        return jax.vmap(functools.partial(best, k=k), in_axes=(0, 0, None, 0, 0))(
            class_logits, box_codes, jnp.asarray(anchors), original_hw, scale
        )

    if pre_nms_top_k <= first_pairs:
        return detect(pre_nms_top_k)[0]
    detections, final = detect(first_pairs)
    return lax.cond(jnp.all(final), lambda: detections, lambda: detect(pre_nms_top_k)[0])


def top_pairs(class_logits: jax.Array, k: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the k highest logits of [A, K]: logits [k] float32, anchors [k], labels [k].

    They are sorted, best first; ties go to the lower anchor, then the lower class. There are fewer
    than k if A * K is smaller.
    """
    num_anchors, num_classes = class_logits.shape
    class_logits = class_logits.astype(jnp.float32)  # exact, and top_k on bfloat16 is slow on CPU
    # A pair among the k best has an anchor among the k best by their best class, so a small sort
    # over A rules out most of the A * K pairs. Sorted anchors keep the order of ties.
    _, anchors = jax.lax.top_k(jnp.max(class_logits, axis=1), min(k, num_anchors))
    anchors = jnp.sort(anchors)
    candidates = class_logits[anchors].reshape(-1)
    logits, pairs = jax.lax.top_k(candidates, min(k, candidates.size))
    return logits, anchors[pairs // num_classes], pairs % num_classes


def _from_best_pairs(
    class_logits: jax.Array,
    box_codes: jax.Array,
    anchors: jax.Array,
    original_hw: jax.Array,
    scale: jax.Array,
    *,
    k: int,
    max_detections: int,
    score_threshold: float,
    **nms_options: object,
) -> tuple[Detections, jax.Array]:
    """Return the detections of an image's k best pairs, and whether more would not change them."""
    logits, rows, labels = top_pairs(class_logits, k)
    boxes = box_ops.decode(box_codes[rows].astype(jnp.float32), anchors[rows])
    boxes = box_ops.clip(boxes * scale, original_hw)
    scores = jax.nn.sigmoid(logits)
    kept = nms(
        boxes,
        scores,
        labels,
        max_detections=max_detections,
        score_threshold=score_threshold,
        **nms_options,
    )
    found = kept.indices >= 0
    detections = Detections(
        boxes=jnp.where(found[:, None], boxes[kept.indices], 0.0),
        scores=kept.scores,
        labels=jnp.where(found, labels[kept.indices], -1).astype(jnp.int32),
    )
    return detections, _is_final(kept, scores[-1], score_threshold)


def _is_final(kept: Kept, last: jax.Array, score_threshold: float) -> jax.Array:
    """Whether NMS would keep the same boxes if those that score less than `last` were included.

    This holds if they are not above the threshold, or if all slots went to boxes with higher
    scores: NMS takes the best remaining box, and only ever lowers scores.
    """
    above = last * (1 + 1e-6)  # the sigmoid may round a lower logit to a score one bit higher
    filled = jnp.all((kept.indices >= 0) & (kept.scores > above))
    return filled | (above <= score_threshold)
