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

import importlib
from typing import Any

__version__ = "0.1.0"

# Loaded on first use: JAX takes seconds to import, and `bifpn --help` does not need it.
_MODULES = {
    "MODELS": "models.scaling",
    "Detections": "postprocessing",
    "Detector": "trained",
    "EfficientDet": "models.detector",
    "ImageDetections": "inference",
    "Outputs": "models.detector",
    "UserError": "errors",
    "create_model": "models.detector",
    "evaluate_detector": "trained",
    "export_detector": "exporting",
    "init_variables": "models.initial_values",
    "load_detector": "trained",
    "load_weights": "weights",
    "make_anchors": "models.detector",
    "make_detector": "inference",
    "postprocess": "postprocessing",
    "save_detector": "exporting",
    "save_weights": "weights",
    "trust_code": "named_parts",
    "weights_catalog": "weights",
}

__all__ = list(_MODULES)  # types are in __init__.pyi


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
