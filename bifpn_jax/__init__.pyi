# What type checkers see of `__init__.py`, which loads these names on first use.
from bifpn_jax.errors import UserError
from bifpn_jax.exporting import export_detector, save_detector
from bifpn_jax.inference import ImageDetections, make_detector
from bifpn_jax.models.detector import EfficientDet, Outputs, create_model, make_anchors
from bifpn_jax.models.initial_values import init_variables
from bifpn_jax.models.scaling import MODELS
from bifpn_jax.named_parts import trust_code
from bifpn_jax.postprocessing import Detections, postprocess
from bifpn_jax.trained import Detector, evaluate_detector, load_detector
from bifpn_jax.weights import load_weights, save_weights, weights_catalog

__version__: str

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
    "export_detector",
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
