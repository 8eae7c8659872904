"""Published detectors, trained on COCO: effdet's, google/automl's, and TensorFlow Lite files.

effdet's detectors with other backbones than EfficientNet are not included, because they cannot be
built: resdet50, csp*, efficientdetv2_*.
"""

from collections.abc import Iterator
from typing import Any

from bifpn_jax.weights.published.published_file import INCEPTION, PublishedWeights

_EFFDET = "https://github.com/rwightman/efficientdet-pytorch"
_AUTOML = "https://github.com/google/automl/tree/master/efficientdet"
_BUCKET = "https://storage.googleapis.com/cloud-tpu-checkpoints/efficientdet"
_MEDIAPIPE = "https://storage.googleapis.com/mediapipe-models/object_detector"
_MEDIAPIPE_PAGE = "https://ai.google.dev/edge/mediapipe/solutions/vision/object_detector"

# effdet's own models have neither TensorFlow's padding nor its biases before batch norms.
_OWN = {"padding": "symmetric", "conv_bias": False, "backbone_batch_norm_epsilon": 1e-5}
_QUAD = {**_OWN, "feature_network": "qufpn"}
_BILINEAR = {"upsampling": "bilinear", "downsampling": "bilinear"}

# AP is in per cent here, as their pages print it.

# Model, file without ".pth", AP. The file's last part is the start of its SHA-256.
_EFFDET_PORTED = (
    ("d0", "tf_efficientdet_d0_34-f153e0cf", 34.2),
    ("d1", "tf_efficientdet_d1_40-a30f94af", 40.1),
    ("d2", "tf_efficientdet_d2_43-8107aa99", 43.4),
    ("d3", "tf_efficientdet_d3_47-0b525f35", 47.1),
    ("d4", "tf_efficientdet_d4_49-f56376d9", 49.2),
    ("d5", "tf_efficientdet_d5_51-c79f9be6", 51.2),
    ("d6", "tf_efficientdet_d6_52-4eda3773", 52.0),
    ("d7", "tf_efficientdet_d7_53-6d1d7a95", 53.1),
    ("d7x", "tf_efficientdet_d7x-f390b87c", 54.3),
    ("lite0", "tf_efficientdet_lite0-dfacfc78", 27.1),
    ("lite1", "tf_efficientdet_lite1-6dc7ab30", 32.2),
    ("lite2", "tf_efficientdet_lite2-86c5d55b", 35.9),
    ("lite3", "tf_efficientdet_lite3-506852cb", 39.6),
    ("lite3x", "tf_efficientdet_lite3x-8404c57b", 43.6),
    ("lite4", "tf_efficientdet_lite4-391ddabc", 44.2),
)
_EFFDET_ADVPROP = (
    ("d0", "tf_efficientdet_d0_ap-d0cdbd0a", 34.8),
    ("d1", "tf_efficientdet_d1_ap-7721d075", 40.8),
    ("d2", "tf_efficientdet_d2_ap-a2995c19", 44.2),
    ("d3", "tf_efficientdet_d3_ap-e4a2feab", 47.7),
    ("d4", "tf_efficientdet_d4_ap-f601a5fc", 50.2),
    ("d5", "tf_efficientdet_d5_ap-3673ae5d", 52.1),
)
# Name, model, settings, file, AP.
_EFFDET_OWN = (
    ("efficientdet_d0", "d0", _OWN, "efficientdet_d0-f3276ba8", 33.6),
    ("efficientdet_d1", "d1", _OWN, "efficientdet_d1-bb7e98fe", 39.4),
    ("efficientdet_q0", "d0", _QUAD, "efficientdet_q0-bdf1bdb5", 35.7),
    (
        "efficientdet_q1",
        "d1",
        {**_QUAD, **_BILINEAR, "network_repeats": 3},
        "efficientdet_q1b-d0612140",
        40.9,
    ),
    (
        "efficientdet_q2",
        "d2",
        {**_QUAD, "network_repeats": 4},
        "efficientdet_q2-0f7564e5",
        43.1,
    ),
)

_AUTOML_COCO = {
    "d0": 34.3,
    "d1": 40.2,
    "d2": 43.5,
    "d3": 46.8,
    "d4": 49.3,
    "d5": 51.2,
    "d6": 52.1,
    "d7": 53.4,
    "d7x": 54.4,
}
_AUTOML_640 = {"d2": 41.7, "d3": 44.0, "d4": 45.7, "d5": 46.6, "d6": 47.9}
_AUTOML_ADVPROP = {"d0": 35.1, "d1": 40.8, "d2": 44.3, "d3": 47.7, "d4": 50.4, "d5": 52.2}
_AUTOML_LITE = {
    "lite0": 26.4,
    "lite1": 31.5,
    "lite2": 35.1,
    "lite3": 38.8,
    "lite3x": 42.6,
    "lite4": 43.2,
}

# Model, type, SHA-256.
_TFLITE = (
    ("lite0", "int8", "0720bf247bd76e6594ea28fa9c6f7c5242be774818997dbbeffc4da460c723bb"),
    ("lite0", "float16", "4b59100025bea1235a84c1038879a6cccc9f6c49f5e41144e91e74d99e780993"),
    ("lite0", "float32", "40338edf5ec70d43e318b0a716a84d4564cd1802759a7a07170c7e43796dbf58"),
    ("lite2", "int8", "b3f50554cb0ea559e90328845f7d9ba4d13c8bff372914d24e06bc8bb72fa896"),
    ("lite2", "float16", ""),
    ("lite2", "float32", ""),
)


def detectors() -> Iterator[PublishedWeights]:
    """Yield all of them, by code base."""
    for model, file, ap in _EFFDET_PORTED:
        yield _effdet(f"tf_efficientdet_{model}", model, {}, file, ap)
    for model, file, ap in _EFFDET_ADVPROP:
        yield _effdet(f"tf_efficientdet_{model}_ap", model, INCEPTION, file, ap)
    for row in _EFFDET_OWN:
        yield _effdet(*row)
    for model, ap in _AUTOML_COCO.items():
        yield _automl(f"efficientdet-{model}", model, {}, f"coco2/efficientdet-{model}.tar.gz", ap)
    for model, ap in _AUTOML_640.items():
        name, settings = f"efficientdet-{model}-640", {"image_hw": (640, 640)}
        entry = _automl(name, model, settings, f"coco640/{name}.tar.gz", ap)
        yield entry._replace(metric="COCO AP")  # the split is not stated
    for model, ap in _AUTOML_ADVPROP.items():
        path = f"advprop/efficientdet-{model}.tar.gz"
        yield _automl(f"efficientdet-{model}-advprop", model, INCEPTION, path, ap)
    for model, ap in _AUTOML_LITE.items():
        yield _automl(f"efficientdet-{model}", model, {}, f"coco/efficientdet-{model}.tgz", ap)
    for model, kind, sha256 in _TFLITE:
        file = f"efficientdet_{model}"
        yield PublishedWeights(
            name=f"{file}_{kind}",
            kind="tflite",
            model=model,
            settings={},
            url=f"{_MEDIAPIPE}/{file}/{kind}/1/{file}.tflite",
            sha256=sha256,
            source=_MEDIAPIPE_PAGE,
        )


def _effdet(
    name: str, model: str, settings: dict[str, Any], file: str, ap: float
) -> PublishedWeights:
    return PublishedWeights(
        name=name,
        kind="effdet",
        model=model,
        settings=dict(settings),
        url=f"{_EFFDET}/releases/download/v0.1/{file}.pth",
        sha256=file.rpartition("-")[2],
        score=round(ap / 100, 4),
        source=_EFFDET,
    )


def _automl(
    name: str, model: str, settings: dict[str, Any], path: str, ap: float
) -> PublishedWeights:
    return PublishedWeights(
        name=name,
        kind="automl",
        model=model,
        settings=dict(settings),
        url=f"{_BUCKET}/{path}",
        score=round(ap / 100, 4),
        source=_AUTOML,
    )
