"""Published ImageNet classifiers: the backbones that detectors start from.

All of them are Google's, ported to PyTorch by timm and by efficientnet_pytorch; scores are those of
the originals.
"""

from collections.abc import Iterator

from bifpn_jax.weights.published.published_file import IMAGENET, INCEPTION, PublishedWeights

_TIMM = "https://github.com/huggingface/pytorch-image-models"
_HUB = "https://huggingface.co/timm"
_LUKEMELAS = "https://github.com/lukemelas/EfficientNet-PyTorch"
_TPU = "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet"
_BUCKET = "https://storage.googleapis.com/cloud-tpu-checkpoints/efficientnet"

_B = ("b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7")

# Training recipe -> top-1 of B0, B1, …
_TOP1 = {
    "plain": (76.7, 78.7, 79.8, 81.1, 82.5, 83.1),
    "autoaugment": (77.1, 79.1, 80.1, 81.6, 82.9, 83.6, 84.0, 84.3),
    "advprop": (77.6, 79.6, 80.5, 81.9, 83.3, 84.3, 84.8, 85.2),
    "noisy student": (78.8, 81.5, 82.4, 84.1, 85.3, 86.1, 86.4, 86.9),
}
_LITE_TOP1 = (75.1, 76.7, 77.6, 79.8, 81.5)
_RANDAUGMENT = {"b5": 83.7, "b7": 84.7}

# Recipe -> end of timm's name, its tag on the hub, start of the SHA-256 of B0's, B1's … .pth file.
_TIMM_FILES = {
    "plain": ("", "in1k", "0af12548 5c1377c4 e393ef04 e3bd6955 74ee3bed c6949ce9"),
    "autoaugment": (
        "_aa",
        "aa_in1k",
        "827b6e33 ea7a6ee0 60c94f97 84b4657e 818f208c 99018a74 80ba17e4 076e3472",
    ),
    "advprop": (
        "_ap",
        "ap_in1k",
        "f262efe1 44ef0a3d 2f8e7636 aad25bdd dedb23e6 9e82fae8 4ffb161f ddb28fec",
    ),
    "noisy student": (
        "_ns",
        "ns_jft_in1k",
        "c0e6a31c 99dd0c41 00306e48 9d44bf68 d6313a46 6f26d0cf 51548356 1dbc32de",
    ),
}
_TIMM_RANDAUGMENT = {"b5": "9a3e5369", "b7": "6c08e654"}
_TIMM_LITE = ("0aa007d2", "bde8b488", "dcccb7df", "b733e338", "741542c3")

# Start of the SHA-256 of B0's, B1's … file.
_LUKEMELAS_FILES = "355c32eb f1951068 8bb594d6 5fb5a3c3 6ed6700e b6417697 c76e70fd dcc49843"
_LUKEMELAS_ADVPROP = "b64d5a18 0f3ce85a 6e9d97e5 cdd7c0f4 44fb3a87 86493f6b ac80338e 4652b6dd"
_LUKEMELAS_TOP1 = (76.3, 78.8, 79.8, 81.1, 82.6, 83.3, 84.0, 84.4)

# Recipe -> (folder and start of the file, end of our name).
_TPU_FILES = {
    "plain": ("ckpts/efficientnet-", ""),
    "autoaugment": ("ckptsaug/efficientnet-", "-aug"),
    "advprop": ("advprop/efficientnet-", "-advprop"),
    "noisy student": ("noisystudent/noisy_student_efficientnet-", "-noisystudent"),
}


def backbones() -> Iterator[PublishedWeights]:
    """Yield all of them, by code base."""
    yield from _timm_files()
    yield from _lukemelas_files()
    yield from _tpu_files()


def _timm_files() -> Iterator[PublishedWeights]:
    for recipe, (end, tag, hashes) in _TIMM_FILES.items():
        for variant, top1, sha256 in zip(_B, _TOP1[recipe], hashes.split(), strict=False):
            yield from _timm(variant, end, tag, sha256, top1)
    for variant, sha256 in _TIMM_RANDAUGMENT.items():
        yield from _timm(variant, "_ra", "ra_in1k", sha256, _RANDAUGMENT[variant])
    for i, (sha256, top1) in enumerate(zip(_TIMM_LITE, _LITE_TOP1, strict=True)):
        yield from _timm(f"lite{i}", "", "in1k", sha256, top1)


def _timm(variant: str, end: str, tag: str, sha256: str, top1: float) -> Iterator[PublishedWeights]:
    """Yield the same weights twice: timm's older release, and the hub."""
    name = f"tf_efficientnet_{variant}"
    release = f"{_TIMM}/releases/download/v0.1-weights/{name}{end}-{sha256}.pth"
    hub = f"{_HUB}/{name}.{tag}"
    for full_name, url, known, source in (
        (f"{name}{end}", release, sha256, _TIMM),
        (f"{name}.{tag}", f"{hub}/resolve/main/model.safetensors", "", hub),
    ):
        yield _classifier(full_name, "timm", variant, end == "_ap", url, known, top1, source)


def _lukemelas_files() -> Iterator[PublishedWeights]:
    for advprop, hashes, accuracies in (
        (False, _LUKEMELAS_FILES, _LUKEMELAS_TOP1),
        (True, _LUKEMELAS_ADVPROP, _TOP1["advprop"]),
    ):
        for variant, top1, sha256 in zip(_B, accuracies, hashes.split(), strict=True):
            file = f"{'adv-' if advprop else ''}efficientnet-{variant}-{sha256}"
            url = f"{_LUKEMELAS}/releases/download/1.0/{file}.pth"
            name = f"efficientnet_pytorch-{variant}{'-advprop' if advprop else ''}"
            kind = "efficientnet_pytorch"
            yield _classifier(name, kind, variant, advprop, url, sha256, top1, _LUKEMELAS)


def _tpu_files() -> Iterator[PublishedWeights]:
    for recipe, (path, end) in _TPU_FILES.items():
        for variant, top1 in zip(_B, _TOP1[recipe], strict=False):
            name, url = f"efficientnet-{variant}{end}", f"{_BUCKET}/{path}{variant}.tar.gz"
            advprop = recipe == "advprop"
            yield _classifier(name, "automl", variant, advprop, url, "", top1, _TPU)
    for variant, top1 in _RANDAUGMENT.items():
        name = f"efficientnet-{variant}-randaug"
        url = f"{_BUCKET}/randaug/{name}.tar.gz"
        yield _classifier(name, "automl", variant, False, url, "", top1, _TPU)
    for i, top1 in enumerate(_LITE_TOP1):
        name = f"efficientnet-lite{i}"
        url = f"{_BUCKET}/lite/{name}.tar.gz"
        yield _classifier(name, "automl", f"lite{i}", False, url, "", top1, f"{_TPU}/lite")


def _classifier(
    name: str,
    kind: str,
    variant: str,
    advprop: bool,
    url: str,
    sha256: str,
    top1: float,
    source: str,
) -> PublishedWeights:
    return PublishedWeights(
        name=name,
        kind=kind,
        model=variant,
        settings=dict(INCEPTION) if advprop else {},
        url=url,
        sha256=sha256,
        score=round(top1 / 100, 5),
        metric=IMAGENET,
        source=source,
    )
