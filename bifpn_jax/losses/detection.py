"""The loss of a batch: a class loss and a box loss, each of which can be replaced.

A class loss is a function (logits [B, A, K], targets [B, A, K] bool) -> elementwise losses
[B, A, K] of all anchors; anchors without a matched object have all targets False.

A box loss is a function (box_codes [B, A, 4], targets, anchors [A, 4]) -> [], the sum of the losses
of all positive anchors of the batch. `targets` is a `matching.Targets` with B in front: positive
anchors have `class_targets` >= 0, and their boxes are `boxes.decode(targets.box_targets, anchors)`.

Both get those fields of `config.loss` that they have as keyword arguments. Built-in losses are
chosen by name, `class_loss=focal`; a custom one is `box_loss=FILE.py:NAME`, or a function.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bifpn_jax.errors import UserError
from bifpn_jax.losses.focal import sigmoid_focal
from bifpn_jax.losses.huber import huber_box_loss
from bifpn_jax.matching import Targets
from bifpn_jax.named_parts import Parts, bind_known, reported
from bifpn_jax.ops.reduction import total

CLASS_LOSSES = Parts("class_loss", {"focal": sigmoid_focal})
BOX_LOSSES = Parts("box_loss", {"huber": huber_box_loss})

Loss = Callable[..., jax.Array]


class LossSettings(NamedTuple):
    """The loss and its constants (paper section 5).

    Attributes:
        class_loss: key of `CLASS_LOSSES`, or a function.
        box_loss: key of `BOX_LOSSES`, or a function.
        alpha: focal loss: weight of the positives; negatives get 1 - alpha.
        gamma: focal loss: focusing exponent.
        label_smoothing: s in [0, 1); class targets become s / 2 and 1 - s / 2.
        delta: where the Huber loss becomes linear.
        box_weight: weight of the box loss in the total.
        iou_threshold: minimum IoU at which an anchor is matched to an object.
    """

    class_loss: str | Loss = "focal"
    box_loss: str | Loss = "huber"
    alpha: float = 0.25
    gamma: float = 1.5
    label_smoothing: float = 0.0
    delta: float = 0.1
    box_weight: float = 50.0
    iou_threshold: float = 0.5


PUBLISHED = LossSettings()


def detection_loss(
    class_logits: jax.Array,
    box_codes: jax.Array,
    targets: Targets,
    normalizer: jax.Array,
    anchors: jax.Array,
    settings: LossSettings = PUBLISHED,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return the loss of a batch, ``class_loss + box_weight * box_loss``, and its two parts.

    Args:
        class_logits: [B, A, K].
        box_codes: [B, A, 4] (ty, tx, th, tw).
        targets: the batch's ``class_targets`` [B, A] and ``box_targets`` [B, A, 4].
        normalizer: [], the sum of ``num_positives`` over the batch, plus 1.
        anchors: [A, 4].
        settings: the loss.

    Returns:
        total [] float32 and ``{"class_loss": [], "box_loss": []}`` (unweighted).
    """
    normalizer = jnp.asarray(normalizer, jnp.float32)
    constants = settings._asdict()
    class_loss = bind_known(CLASS_LOSSES.find(settings.class_loss), constants)
    box_loss = bind_known(BOX_LOSSES.find(settings.box_loss), constants)
    # The one-hot is just a comparison, which XLA fuses with the loss.
    classes = jnp.arange(class_logits.shape[-1])[None, None, :]
    is_class = targets.class_targets[:, :, None] == classes
    with reported(f"class_loss {settings.class_loss}"):
        of_classes = class_loss(class_logits, is_class)
    with reported(f"box_loss {settings.box_loss}"):
        of_boxes = box_loss(box_codes, targets, anchors)
    _check_shape(f"class_loss {settings.class_loss}", of_classes, class_logits.shape)
    _check_shape(f"box_loss {settings.box_loss}", of_boxes, ())
    losses = {"class_loss": total(of_classes) / normalizer, "box_loss": of_boxes / normalizer}
    return losses["class_loss"] + settings.box_weight * losses["box_loss"], losses


def _check_shape(loss: str, value: jax.Array, expected: tuple[int, ...]) -> None:
    shape = getattr(value, "shape", None)
    if shape != expected:
        found = type(value).__name__ if shape is None else list(shape)
        raise UserError(f"{loss} returns {found}, not an array {list(expected)}.")
