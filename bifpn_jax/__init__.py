"""EfficientDet for JAX: models, detection operations, data, training and evaluation.

    import bifpn_jax, jax, numpy as np

    model = bifpn_jax.create_model("d0", num_classes=90)
    variables = bifpn_jax.init_variables(model, seed=0)
    images = np.zeros((1, 512, 512, 3), np.float32)           # [B, H, W, 3], normalised
    outputs = jax.jit(model.apply)(variables, images)
    outputs.class_logits, outputs.box_codes                   # [B, A, K], [B, A, 4]
    anchors = bifpn_jax.make_anchors(model, (512, 512))       # [A, 4], rows as in the outputs

`load_detector(source)` returns a trained detector, which is called with an image [H, W, 3] uint8.

Paper: EfficientDet: Scalable and Efficient Object Detection, arXiv 1911.09070.
"""

from bifpn_jax.errors import UserError
from bifpn_jax.inference import ImageDetections, make_detector
from bifpn_jax.models.detector import EfficientDet, Outputs, create_model, make_anchors
from bifpn_jax.models.initial_values import init_variables
from bifpn_jax.models.scaling import MODELS
from bifpn_jax.named_parts import trust_code
from bifpn_jax.postprocess import Detections, postprocess
from bifpn_jax.trained import Detector, evaluate_detector, load_detector, save_detector
from bifpn_jax.weights import load_weights, save_weights, weights_catalog

__version__ = "0.1.0"

__all__ = [
    "MODELS",
    "Detections",
    "Detector",
    "EfficientDet",
    "ImageDetections",
    "Outputs",
    "UserError",
    "create_model",
    "evaluate_detector",
    "init_variables",
    "load_detector",
    "load_weights",
    "make_anchors",
    "make_detector",
    "postprocess",
    "save_detector",
    "save_weights",
    "trust_code",
    "weights_catalog",
]
