"""Fixed-size non-maximum suppression for one image; exact, and works under jit and vmap.

One step per detection: take the best score, then drop (hard) or decay (Gaussian soft-NMS,
arXiv 1704.04503) the boxes that overlap it. Classes are told apart by comparing labels, not by
moving their boxes apart, which would cost precision.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bifpn_jax import boxes as box_ops
from bifpn_jax.errors import UserError

# Below these scores a box is not a detection; Gaussian decay never reaches zero by itself.
SCORE_THRESHOLDS = {"hard": 0.0, "gaussian": 0.001}


class Kept(NamedTuple):
    """The boxes that are kept, best first."""

    indices: jax.Array
    """[D] int32: rows of the input, -1 in empty slots."""
    scores: jax.Array
    """[D] float32: their scores, decayed by soft-NMS; 0 in empty slots."""


def nms(
    boxes: jax.Array,
    scores: jax.Array,
    labels: jax.Array,
    *,
    max_detections: int = 100,
    iou_threshold: float = 0.5,
    method: str = "hard",
    sigma: float = 0.5,
    score_threshold: float | None = None,
    class_agnostic: bool = False,
) -> Kept:
    """Keep up to max_detections of N >= 1 boxes; ties are broken by the lower index.

    Args:
        boxes: [N, 4] y0, x0, y1, x1.
        scores: [N] float, higher is better.
        labels: [N] int; boxes with different labels do not suppress each other.
        max_detections: D, the fixed size of the result.
        iou_threshold: "hard" drops boxes whose IoU with a kept one is above it.
        method: "hard", or "gaussian": scores are multiplied by ``exp(-iou**2 / sigma)``.
        sigma: width of the Gaussian.
        score_threshold: only scores above it are kept; None stands for 0 ("hard") or 0.001
            ("gaussian").
        class_agnostic: ignore the labels.

    Raises:
        UserError: unknown method.
    """
    score_threshold = resolve_score_threshold(method, score_threshold)
    boxes, labels = jnp.asarray(boxes, jnp.float32), jnp.asarray(labels)

    def step(scores: jax.Array, _: None) -> tuple[jax.Array, Kept]:
        best = jnp.argmax(scores)
        iou = box_ops.pairwise_iou(boxes[best][None, :], boxes)[0]
        if not class_agnostic:
            iou = jnp.where(labels == labels[best], iou, 0.0)
        if method == "hard":
            left = jnp.where(iou > iou_threshold, -jnp.inf, scores)
        else:
            left = _alive(scores * jnp.exp(-(iou**2) / sigma), score_threshold)
        found = scores[best] > -jnp.inf
        kept = Kept(
            indices=jnp.where(found, best, -1).astype(jnp.int32),
            scores=jnp.where(found, scores[best], 0.0),
        )
        return left.at[best].set(-jnp.inf), kept

    scores = _alive(jnp.asarray(scores, jnp.float32), score_threshold)
    _, kept = jax.lax.scan(step, scores, length=max_detections)
    return kept


def resolve_score_threshold(method: str, score_threshold: float | None) -> float:
    """Return the threshold of :func:`nms` or its default; a UserError for an unknown method."""
    if method not in SCORE_THRESHOLDS:
        known = ", ".join(SCORE_THRESHOLDS)
        raise UserError(f"unknown NMS method {method!r}: choose one of {known}")
    return SCORE_THRESHOLDS[method] if score_threshold is None else score_threshold


def _alive(scores: jax.Array, score_threshold: float) -> jax.Array:
    """Set scores that are not above the threshold (including NaN) to minus infinity."""
    return jnp.where(scores > score_threshold, scores, -jnp.inf)
