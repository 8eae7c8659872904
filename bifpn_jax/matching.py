"""Assignment of ground truth to anchors, for one image inside the jitted step (vmap for a batch).

An anchor is matched to the box that it overlaps most if their IoU reaches the threshold; every
other anchor is background, and none are ignored. In addition, every box claims the anchor that
overlaps it most, however little, so that no object is missed.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from bifpn_jax import boxes as box_ops


class Targets(NamedTuple):
    """Targets of the loss for A anchors; a batch adds a leading axis."""

    class_targets: jax.Array
    """[A] int32: label of the matched box, -1 for background."""
    box_targets: jax.Array
    """[A, 4] float32: box code of the matched box, 0 for background."""
    num_positives: jax.Array
    """[] int32: number of matched anchors."""
    matched_box: jax.Array
    """[A] int32: index of the matched box, -1 for background."""


def match(
    anchors: jax.Array, boxes: jax.Array, labels: jax.Array, iou_threshold: float = 0.5
) -> Targets:
    """Return the targets of one image for anchors [A, 4].

    Args:
        anchors: [A, 4] y0, x0, y1, x1 in pixels.
        boxes: [M, 4] ground truth in the same pixels, in any order, padded to M >= 1 rows.
        labels: [M] int32, -1 in padding.
        iou_threshold: smallest IoU of a match that no box has to claim.
    """
    boxes = jnp.asarray(boxes, jnp.float32)
    labels = jnp.asarray(labels)
    is_object = labels >= 0
    best = lax.platform_dependent(
        jnp.asarray(anchors), boxes, is_object, cpu=_best_one_by_one, default=_best_at_once
    )
    matched_box = jnp.where(best.iou >= iou_threshold, best.box, -1)

    # If several boxes claim one anchor, the lowest index wins; claims of padding are dropped.
    num_boxes, num_anchors = len(boxes), len(anchors)
    claimed_anchor = jnp.where(is_object, best.anchor, num_anchors)
    unclaimed = jnp.full(num_anchors, num_boxes)
    claim = unclaimed.at[claimed_anchor].min(jnp.arange(num_boxes), mode="drop")
    matched_box = jnp.where(claim < num_boxes, claim, matched_box).astype(jnp.int32)

    positive = matched_box >= 0
    codes = box_ops.encode(boxes[matched_box], anchors)
    return Targets(
        class_targets=jnp.where(positive, labels[matched_box], -1).astype(jnp.int32),
        box_targets=jnp.where(positive[:, None], codes, 0.0),
        num_positives=jnp.sum(positive, dtype=jnp.int32),
        matched_box=matched_box,
    )


class _Best(NamedTuple):
    """Largest overlaps; the first of equal ones."""

    iou: jax.Array  # [A] of the anchor with any box, -1 without a box
    box: jax.Array  # [A] that box
    anchor: jax.Array  # [M] anchor that a box overlaps most; of a pad, any


def _best_at_once(anchors: jax.Array, boxes: jax.Array, is_object: jax.Array) -> _Best:
    iou = jnp.where(is_object[:, None], box_ops.pairwise_iou(boxes, anchors), -1.0)  # [M, A]
    return _Best(jnp.max(iou, axis=0), _argmax(iou, 0), _argmax(iou, 1))


def _best_one_by_one(anchors: jax.Array, boxes: jax.Array, is_object: jax.Array) -> _Best:
    """The same by a loop that ends at the last object; most images have far fewer than M."""

    def compare(m: jax.Array, best: _Best) -> _Best:
        iou = box_ops.pairwise_iou(lax.dynamic_slice_in_dim(boxes, m, 1), anchors)[0]
        iou = jnp.where(is_object[m], iou, -1.0)
        better = iou > best.iou
        return _Best(
            jnp.where(better, iou, best.iou),
            jnp.where(better, m, best.box),
            best.anchor.at[m].set(_argmax(iou, 0)),
        )

    num_boxes, num_anchors = len(boxes), len(anchors)
    nothing = _Best(
        jnp.full(num_anchors, -1.0),
        jnp.zeros(num_anchors, jnp.int32),
        jnp.zeros(num_boxes, jnp.int32),
    )
    end = jnp.max(jnp.where(is_object, jnp.arange(1, num_boxes + 1), 0))
    return lax.fori_loop(0, end, compare, nothing)


def _argmax(x: jax.Array, axis: int) -> jax.Array:
    return lax.argmax(x, axis, jnp.int32)
