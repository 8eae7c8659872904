"""effdet (PyTorch) in the forms in which it can run: eager, channels-last, compiled.

It runs on the kind of device that JAX uses, and a program returns when the device is done. PyTorch
is imported only when it is used; `missing` says whether it can be.
"""

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from bifpn_jax.models.scaling import IMAGENET_MEAN, IMAGENET_STD

Program = Callable[[], object]


def missing() -> str:
    """Return why effdet cannot take part, or ""."""
    try:
        for package in ("effdet", "torch", "torchvision"):
            importlib.import_module(package)
    except ImportError as error:
        return f'effdet is not installed ({error}): pip install -e ".[peers]"'
    import torch

    if jax.default_backend() == "gpu" and not torch.cuda.is_available():
        return "this PyTorch cannot use the GPU that jax uses; install one that can"
    return ""


def _device() -> Any:
    import torch

    return torch.device("cuda" if jax.default_backend() == "gpu" else "cpu")


def _wait() -> None:
    import torch

    if _device().type == "cuda":
        torch.cuda.synchronize()


def _autocast(dtype: str) -> Any:
    """Return a context in which PyTorch computes in a dtype; parameters stay float32, as usual."""
    import torch

    return torch.autocast(_device().type, getattr(torch, dtype), enabled=dtype != "float32")


def make_model(
    name: str, image_hw: tuple[int, int], num_classes: int | None = None, network: str = ""
) -> Any:
    """Return a model of effdet with random weights.

    Args:
        name: its name in effdet, "tf_efficientdet_d0".
        image_hw: height and width of its images.
        num_classes: number of classes; None for effdet's default.
        network: one of effdet's feature networks; "" for the model's default.
    """
    from effdet import EfficientDet, get_efficientdet_config

    config = get_efficientdet_config(name)
    config.image_size = image_hw
    if num_classes is not None:
        config.num_classes = num_classes
    if network:
        config.fpn_name = network
    return EfficientDet(config, pretrained_backbone=False)


def _compiled(network: Any) -> Any:
    """Compile for fixed shapes; by default torch would make a second model's shapes dynamic."""
    import torch

    return torch.compile(network, dynamic=False)


def _released_model(model: str, image_hw: tuple[int, int]) -> Any:
    """Return effdet's version of one of our models, "d0"."""
    import torch

    # JAX's default on a GPU that has it; elsewhere it changes nothing.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    return make_model(f"tf_efficientdet_{model}", image_hw).to(_device())


def forward_forms(
    model: str, image_hw: tuple[int, int], batch_size: int, *, dtype: str = "float32"
) -> dict[str, Program]:
    """Return form -> the forward pass in evaluation mode."""
    import torch

    eager = _released_model(model, image_hw).eval()
    last = _released_model(model, image_hw).eval().to(memory_format=torch.channels_last)
    images = torch.randn(batch_size, 3, *image_hw, device=_device())
    images_last = images.to(memory_format=torch.channels_last)

    def run(network: Any, x: Any) -> None:
        with torch.inference_mode(), _autocast(dtype):
            network(x)
        _wait()

    return {
        "effdet eager": partial(run, eager, images),
        "effdet channels-last": partial(run, last, images_last),
        "effdet compiled": partial(run, _compiled(last), images_last),
    }


def _normalization() -> tuple[Any, Any]:
    """Return mean and standard deviation [1, 3, 1, 1] of ImageNet, in units of 0..255."""
    import torch

    mean, std = (IMAGENET_MEAN, IMAGENET_STD)
    mean, std = (torch.tensor(x, device=_device()).view(1, 3, 1, 1) for x in (mean, std))
    return mean, std


def train_forms(
    model: str,
    image_hw: tuple[int, int],
    boxes: np.ndarray,
    labels: np.ndarray,
    *,
    dtype: str = "float32",
) -> dict[str, Program]:
    """Return form -> a training step: assignment, loss, backward, clipping, SGD, moving average."""
    arguments = (model, image_hw, boxes, labels)
    return {
        "effdet channels-last": train_step(*arguments, compiled=False, dtype=dtype),
        "effdet compiled": train_step(*arguments, compiled=True, dtype=dtype),
    }


def train_step(
    model: str,
    image_hw: tuple[int, int],
    boxes: np.ndarray,
    labels: np.ndarray,
    *,
    compiled: bool = False,
    dtype: str = "float32",
) -> Program:
    """Return one of `train_forms`, channels-last."""
    import torch
    from effdet import DetBenchTrain
    from timm.utils import ModelEmaV2

    bench = DetBenchTrain(_released_model(model, image_hw), create_labeler=True).train()
    bench = bench.to(_device())
    bench = bench.to(memory_format=torch.channels_last)
    average = ModelEmaV2(bench, decay=0.9998)
    if compiled:
        bench.model = _compiled(bench.model)
    parameters = [p for p in bench.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, weight_decay=4e-5)
    images = torch.randint(0, 256, (len(boxes), 3, *image_hw), dtype=torch.uint8)
    images = images.to(_device(), memory_format=torch.channels_last)
    mean, std = _normalization()
    target = {"bbox": torch.tensor(boxes), "cls": torch.tensor(labels + 1.0)}
    target = {key: value.to(_device()) for key, value in target.items()}

    def run() -> None:
        with _autocast(dtype):
            loss = bench(images.float().sub_(mean).div_(std), target)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 10.0)
        optimizer.step()
        with torch.no_grad():
            average.update(bench)
        _wait()

    return run


def postprocessing(
    model: str, image_hw: tuple[int, int], class_logits: list[np.ndarray], codes: list[np.ndarray]
) -> Program:
    """Return top-k, decoding and hard NMS per class, of one array [B, C, H, W] per level."""
    import torch
    from effdet.anchors import Anchors
    from effdet.bench import _batch_detection, _post_process

    config = _released_model(model, image_hw).config
    anchors = Anchors.from_config(config).boxes.to(_device())
    logits, codes = [
        [torch.tensor(x, device=_device()) for x in maps] for maps in (class_logits, codes)
    ]
    batch_size = len(logits[0])
    scale = torch.ones(batch_size, device=_device())
    size = torch.tensor([image_hw[::-1]] * batch_size, device=_device())

    def run() -> None:
        with torch.inference_mode():
            outputs = _post_process(logits, codes, len(logits), config.num_classes)
            first, second, indices, classes = outputs
            _batch_detection(
                batch_size, first, second, anchors, indices, classes, scale, size.float()
            )
        _wait()

    return run


def end_to_end_forms(
    model: str, image_hw: tuple[int, int], path: str, logit_mean: float, logit_std: float
) -> dict[str, Program]:
    """Return form -> from a file to boxes in its pixels, with this distribution of class logits."""
    import torch
    from effdet import DetBenchPredict
    from effdet.data.transforms import transforms_coco_eval
    from PIL import Image

    transform = transforms_coco_eval(image_hw, use_prefetcher=True)
    mean, std = _normalization()

    def read() -> tuple[Any, dict[str, Any]]:
        image = Image.open(path).convert("RGB")
        size = torch.tensor([image.size], dtype=torch.float32, device=_device())
        array, info = transform(image, {})
        x = torch.from_numpy(array)[None].to(_device()).float().sub_(mean).div_(std)
        scale = torch.tensor([info["img_scale"]], device=_device())
        x = x.to(memory_format=torch.channels_last)
        return x, {"img_scale": scale, "img_size": size}

    def run(bench: Any) -> None:
        with torch.inference_mode():
            bench(*read()).cpu().numpy()

    def bench(compiled: bool) -> Any:
        network = _released_model(model, image_hw).to(memory_format=torch.channels_last)
        _spread_logits(network, read()[0], logit_mean, logit_std)
        predict = DetBenchPredict(network).eval()
        if compiled:
            predict.model = _compiled(network)
        return predict

    return {
        "effdet channels-last": partial(run, bench(False)),
        "effdet compiled": partial(run, bench(True)),
    }


def _spread_logits(network: Any, images: Any, mean: float, std: float) -> None:
    """Give a network batch statistics of images, and scale the class outputs over them."""
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # only the newest statistics
    last = network.class_net.predict.conv_pw
    with torch.no_grad():
        network.train()(images)
        levels = network.eval()(images)[0]
        outputs = torch.cat([level[0].flatten(1) for level in levels], dim=1)  # [., positions]
        factor = std / outputs.std(dim=1)
        last.bias.copy_(mean - (outputs.mean(dim=1) - last.bias) * factor)
        last.weight *= factor[:, None, None, None]


def loader(
    folder: str, annotations: str, image_hw: tuple[int, int], batch: int, workers: int
) -> Any:
    """Return endless augmented uint8 batches from effdet's dataset, transforms and collation."""
    from pathlib import Path

    from effdet.data.dataset import DetectionDatset
    from effdet.data.loader import DetectionFastCollate
    from effdet.data.parsers import CocoParserCfg
    from effdet.data.transforms import transforms_coco_train
    from torch.utils.data import DataLoader, RandomSampler

    parser = {"cfg": CocoParserCfg(ann_filename=annotations, ignore_empty_gt=False)}
    dataset = DetectionDatset(Path(folder), parser="coco", parser_kwargs=parser)
    dataset.transform = transforms_coco_train(image_hw, use_prefetcher=True)
    return iter(
        DataLoader(
            dataset,
            batch_size=batch,
            # One long epoch, because workers restart with each epoch.
            sampler=RandomSampler(dataset, replacement=True, num_samples=10**6),
            num_workers=workers,
            collate_fn=DetectionFastCollate(),
            multiprocessing_context="forkserver",  # jax has threads, which a fork would lose
        )
    )
