"""Post-processing alone, and prediction end to end, from a file to boxes."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from bifpn_jax.data.augment.placing import letterbox_image
from bifpn_jax.data.records import decode_image
from bifpn_jax.data.sources.shape_drawing import draw_image
from bifpn_jax.inference import make_detector, normalize_images
from bifpn_jax.models.detector import EfficientDet, make_anchors
from bifpn_jax.models.initial_values import init_variables
from bifpn_jax.postprocessing import postprocess
from experiments.paper import counts
from experiments.performance import effdet_peer
from experiments.performance.contest import OURS, Contest, compete
from experiments.performance.options import Options

MODEL = "d0"
_BATCH = 8

# Approximately as for each class in trained models. A new model's logits are all alike, so
# selecting and suppressing boxes would be a different task than in use.
LOGIT_MEAN, LOGIT_STD = -6.0, 1.5


def postprocessing(options: Options) -> list[Contest]:
    """Time top 5,000 pairs, decoding, hard NMS per class, 100 detections, for a batch of 8."""
    model = counts.released_model(MODEL)
    logits, codes = _level_maps(model)
    anchors = make_anchors(model, model.image_hw)
    batch = (_flatten(logits, model.num_classes), _flatten(codes, 4))
    sizes = np.full((_BATCH, 2), model.image_hw, np.int32)
    scale = np.ones(_BATCH, np.float32)
    run = jax.jit(lambda *arrays: postprocess(*arrays[:2], anchors, *arrays[2:], nms_method="hard"))
    arrays = jax.device_put((*batch, sizes, scale))
    contestants = {OURS: lambda: jax.block_until_ready(run(*arrays))}
    if options.peers:
        contestants["effdet"] = effdet_peer.postprocessing(MODEL, model.image_hw, logits, codes)
    work = f"post-processing, batch {_BATCH}"
    return [compete(work, contestants, rounds=options.rounds, model=MODEL)]


def end_to_end(options: Options) -> list[Contest]:
    """Time prediction from a JPEG file to boxes in its pixels, with hard NMS."""
    model = counts.released_model(MODEL)
    with _picture(options.images) as path:
        image = decode_image(path.read_bytes(), path.name)
        variables = _with_spread_logits(model, init_variables(model, 0), image)
        detect = make_detector(model, variables, score_threshold=None, nms_method="hard")
        contestants = {OURS: lambda: detect(decode_image(path.read_bytes(), path.name))}
        if options.peers:
            contestants |= effdet_peer.end_to_end_forms(
                MODEL, model.image_hw, str(path), LOGIT_MEAN, LOGIT_STD
            )
        contest = compete("JPEG to boxes", contestants, rounds=options.rounds, model=MODEL)
    return [contest]


@contextlib.contextmanager
def _picture(folder: Path | None) -> Iterator[Path]:
    """Yield a JPEG: the first in the folder, or a drawn one of 480 x 640 pixels."""
    found = sorted(folder.glob("*.jpg")) if folder else []
    if found:
        yield found[0]
        return
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "drawn.jpg"
        image = draw_image(np.random.default_rng(0), (480, 640))[0]
        cv2.imwrite(str(path), image)
        yield path


def _with_spread_logits(model: EfficientDet, variables: Any, image: np.ndarray) -> Any:
    """Return the weights with batch statistics of an image, and class outputs scaled over it."""
    framed, content_hw, _ = letterbox_image(image, model.image_hw)
    image = normalize_images(
        jnp.asarray(framed)[None], jnp.asarray([content_hw]), model.mean_rgb, model.std_rgb
    )
    measuring = model.clone(batch_norm_momentum=0.0)
    rngs = {"stochastic_depth": jax.random.key(0)}

    @jax.jit
    def spread(variables: Any) -> Any:
        _, stats = measuring.apply(variables, image, train=True, mutable=["batch_stats"], rngs=rngs)
        variables = {"params": variables["params"], **stats}
        logits = model.apply(variables, image, train=False).class_logits
        params = traverse_util.flatten_dict(variables["params"])
        kernel, bias = (
            ("class_head", "predictor", "pointwise", leaf) for leaf in ("kernel", "bias")
        )
        outputs = logits.reshape(-1, len(params[bias]))  # [positions, anchors per position * K]
        factor = LOGIT_STD / jnp.std(outputs, axis=0)
        mean = jnp.mean(outputs, axis=0) - params[bias]
        params |= {kernel: params[kernel] * factor, bias: LOGIT_MEAN - mean * factor}
        return variables | {"params": traverse_util.unflatten_dict(params)}

    return spread(variables)


def _level_maps(model: EfficientDet) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return logits and codes [B, A C, H, W] per level, distributed about as in trained models."""
    rng, logits, codes = np.random.default_rng(0), [], []
    per_cell = model.num_scales * len(model.aspect_ratios)
    for level in range(model.min_level, model.max_level + 1):
        hw = tuple(-(-side // 2**level) for side in model.image_hw)
        shape = (_BATCH, per_cell * model.num_classes, *hw)
        logits.append(rng.normal(LOGIT_MEAN, LOGIT_STD, shape).astype(np.float32))
        codes.append(rng.normal(0, 0.3, (_BATCH, per_cell * 4, *hw)).astype(np.float32))
    return logits, codes


def _flatten(maps: list[np.ndarray], values: int) -> np.ndarray:
    """Map [B, A C, H, W] of each level to [B, all anchors, C]."""
    rows = [x.transpose(0, 2, 3, 1).reshape(len(x), -1, values) for x in maps]
    return np.concatenate(rows, 1)
