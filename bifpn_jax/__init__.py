"""EfficientDet for JAX: models, detection operations, data, training and evaluation.

    model = bifpn_jax.create_model("d0", num_classes=90)
    variables = model.init(key, images)                       # images [B, H, W, 3], normalised
    outputs = model.apply(variables, images, train=False)     # class_logits [B, A, K], box_codes
    anchors = bifpn_jax.make_anchors(model, (H, W))           # [A, 4], rows as in the outputs
    detect = bifpn_jax.make_detector(model, variables)        # detect(uint8 image) -> detections

Paper: EfficientDet: Scalable and Efficient Object Detection, arXiv 1911.09070.
"""

from bifpn_jax.errors import UserError
from bifpn_jax.inference import ImageDetections, make_detector
from bifpn_jax.models.detector import EfficientDet, Outputs, create_model, make_anchors
from bifpn_jax.models.scaling import MODELS
from bifpn_jax.postprocess import Detections, postprocess
from bifpn_jax.weights import load_weights, save_weights, weights_catalog

__version__ = "0.1.0"

__all__ = [
    "MODELS",
    "Detections",
    "EfficientDet",
    "ImageDetections",
    "Outputs",
    "UserError",
    "create_model",
    "load_weights",
    "make_anchors",
    "make_detector",
    "postprocess",
    "save_weights",
    "weights_catalog",
]
