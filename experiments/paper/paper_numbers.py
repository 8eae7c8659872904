"""The paper's numbers (arXiv 1911.09070, version 7), by table and figure.

AP is in COCO's 0..1, where the paper prints per cent; parameters in millions, multiply-adds in
billions, latency in milliseconds.
"""

from typing import NamedTuple


class Detector(NamedTuple):
    """A row of Table 2: single model, single scale, COCO; None if the paper gives no number."""

    ap_test: float | None  # test-dev
    ap_val: float | None
    parameters: float | None
    multiply_adds: float | None
    titan_v: float | None = None  # latency, batch 1
    v100: float | None = None


# Table 2, upper part of each group.
EFFICIENTDET = {
    "d0": Detector(0.346, 0.343, 3.9, 2.5, 12, 10.2),
    "d1": Detector(0.405, 0.402, 6.6, 6.1, 16, 13.5),
    "d2": Detector(0.439, 0.435, 8.1, 11, 23, 17.7),
    "d3": Detector(0.472, 0.468, 12, 25, 37, 29.0),
    "d4": Detector(0.497, 0.493, 21, 55, 65, 42.8),
    "d5": Detector(0.515, 0.513, 34, 135, 128, 72.5),
    "d6": Detector(0.526, 0.522, 52, 226, 169, 92.8),
    "d7": Detector(0.537, 0.534, 52, 325, 232, 122),
    "d7x": Detector(0.551, 0.544, 77, 410, 285, 153),
}

# Table 2, the other detectors.
OTHERS = {
    "YOLOv3": Detector(0.330, None, None, 71),
    "RetinaNet-R50 (640)": Detector(0.392, 0.392, 34, 97, 25),
    "RetinaNet-R101 (640)": Detector(0.399, 0.398, 53, 127, 32),
    "Mask R-CNN R101-FPN": Detector(None, 0.429, 63, 164, 56),
    "Mask R-CNN X101-FPN": Detector(None, 0.443, 107, 277, 103),
    "ResNet-50 + NAS-FPN (1024)": Detector(0.442, None, 60, 360, 64),
    "ResNet-50 + NAS-FPN (1280)": Detector(0.448, None, 60, 563, 99),
    "ResNet-50 + NAS-FPN (1280@384)": Detector(0.454, None, 104, 1043, 150),
    "AmoebaNet + NAS-FPN + AA (1280)": Detector(None, 0.486, 185, 1317, 246),
    "AmoebaNet + NAS-FPN + AA (1536)": Detector(0.507, None, 209, 3045, 489),
}


class Scaling(NamedTuple):
    """A row of Table 1."""

    image_size: int
    backbone: str
    width: int
    network_repeats: int
    head_repeats: int


SCALING = {
    "d0": Scaling(512, "b0", 64, 3, 3),
    "d1": Scaling(640, "b1", 88, 4, 3),
    "d2": Scaling(768, "b2", 112, 5, 3),
    "d3": Scaling(896, "b3", 160, 6, 4),
    "d4": Scaling(1024, "b4", 224, 7, 4),
    "d5": Scaling(1280, "b5", 288, 7, 4),
    "d6": Scaling(1280, "b6", 384, 8, 5),
    "d7": Scaling(1536, "b6", 384, 8, 5),
    "d7x": Scaling(1536, "b7", 384, 8, 5),
}


class Backbone(NamedTuple):
    """A row of Table 4."""

    title: str
    ap: float
    parameters: float
    multiply_adds: float


RESNET_BASELINE = "resnet50_fpn"
# Table 4, by the rows of configs/ablations/backbone_vs_bifpn.py.
BACKBONES = {
    RESNET_BASELINE: Backbone("ResNet50 + FPN", 0.370, 34, 97),
    "retinanet_fpn": Backbone("EfficientNet-B3 + FPN", 0.403, 21, 75),
    "bifpn": Backbone("EfficientNet-B3 + BiFPN", 0.444, 12, 24),
}


class Network(NamedTuple):
    """A row of Table 5; the ratios are to "repeated FPN+PANet"."""

    title: str
    ap: float
    parameter_ratio: float
    multiply_add_ratio: float


# Table 5, by the rows of configs/ablations/feature_networks.py.
NETWORKS = {
    "fpn": Network("Repeated top-down FPN", 0.4229, 1.00, 1.00),
    "panet": Network("Repeated FPN+PANet", 0.4408, 1.00, 1.00),
    "nas_fpn": Network("NAS-FPN", 0.4316, 0.71, 0.72),
    "fully_connected": Network("Fully-connected FPN", 0.4306, 1.24, 1.21),
    "bifpn_sum": Network("BiFPN without weights", 0.4394, 0.88, 0.67),
    "bifpn": Network("BiFPN with weights", 0.4439, 0.88, 0.68),
}


class SoftmaxAgainstFast(NamedTuple):
    """A row of Table 6; the difference is AP of fast fusion minus AP of softmax."""

    softmax_ap: float
    fast_ap: float
    difference: float
    speed_up: float


FUSION = {
    "model 1": SoftmaxAgainstFast(0.3396, 0.3385, -0.0011, 1.28),
    "model 2": SoftmaxAgainstFast(0.4378, 0.4377, -0.0001, 1.26),
    "model 3": SoftmaxAgainstFast(0.4879, 0.4874, -0.0005, 1.31),
}


def title(name: str) -> str:
    """Return a model's name as in the paper: "D7x" for "d7x"."""
    return name[:1].upper() + name[1:]
