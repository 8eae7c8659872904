"""EfficientDet (arXiv 1911.09070): backbone, feature network, class and box heads."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from bifpn_jax.anchors import ASPECT_RATIOS, anchor_grid
from bifpn_jax.errors import UserError
from bifpn_jax.models.backbones import BACKBONES
from bifpn_jax.models.feature_network import make_feature_network
from bifpn_jax.models.graphs import Graph
from bifpn_jax.models.heads import CLASS_PRIOR_BIAS, Head
from bifpn_jax.models.layers import (
    ACTIVATIONS,
    BATCH_NORM_EPSILON,
    BATCH_NORM_MOMENTUM,
    Layer,
    StochasticDepth,
    bind_norm,
    recomputed,
)
from bifpn_jax.models.model_checks import check_choice, check_model
from bifpn_jax.models.networks import is_module, network_graph
from bifpn_jax.models.scaling import IMAGENET_MEAN, IMAGENET_STD, MODELS
from bifpn_jax.named_parts import call_with_known

Array = jax.Array


class Outputs(NamedTuple):
    """The network's predictions for every anchor; anchors are ordered level, y, x, anchor.

    Attributes:
        class_logits: [B, A, K]; sigmoid gives a probability per class, there is no background.
        box_codes: [B, A, 4], (ty, tx, th, tw) relative to the anchor.
    """

    class_logits: Array
    box_codes: Array


class EfficientDet(nn.Module):
    """A detector of the EfficientDet family; `create_model` fills in a released model's settings.

    Attributes:
        num_classes: K.
        backbone: key of `backbones.BACKBONES`, a module class, or a function that returns a module.
        width: channels of the feature network and the heads.
        network_repeats: cells of the feature network.
        head_repeats: convolutions in each head before its predictor.
        feature_network: key of `networks.NETWORKS`; a custom graph, also as text
            ("6:3,4 5:2,5 …", see `graphs`); or a linen module, called with the backbone's
            ({level: [B, H_l, W_l, C_l]}, train), that returns all levels with `width` channels. A
            class gets those of these settings that it has as attributes.
        fusion: key of `fusion.NORMALIZERS`, or a function of weights.
        upsampling, downsampling: how features are resized inside the feature network: "nearest" or
            "bilinear", and "max" (a 3x3 max-pool) or "bilinear".
        padding: "same", TensorFlow's, or "symmetric", PyTorch's; weights fit only one of them.
        backbone_padding: padding of the backbone, if different; "" for `padding`.
        conv_bias: whether convolutions before a batch norm in the feature network and the heads
            have a bias, which is redundant but published.
        expanded_features: take features from inside the backbone's blocks, before the projection.
        separable, separable_heads: False makes the convolutions of the feature network, or of the
            heads, ordinary 3x3 ones, as in RetinaNet.
        norm: key of `layers.NORMS`, or a module class, see `layers.bind_norm`.
        activation: key of `layers.ACTIVATIONS`, or a function. Custom parts can also be given as
            "FILE.py:NAME", see `named_parts`.
        min_level, max_level: pyramid levels; level l has stride 2^l.
        anchor_scale: size of the smallest anchor in strides.
        num_scales: anchor octave steps per level.
        aspect_ratios: numbers (width / height) or pairs (width factor, height factor).
        image_hw: the input size the model was designed for; any other height and width works.
        mean_rgb, std_rgb: normalisation of the input in units of 0..255.
        survival_prob: stochastic depth of the backbone's last block; 1 switches it off.
        dtype: type of the computation, "float32" or "bfloat16"; parameters are float32.
        batch_norm_momentum: share of the running statistics that a step keeps; the published 0.99
            needs some hundred steps to follow the weights, very short runs need less.
        backbone_batch_norm_epsilon: epsilon of the backbone's batch norms; 1e-5 in PyTorch's own.
        axis_name: mapped axis over which batch statistics are averaged, or None.
        batch_norm_group: number of neighbouring replicas of that axis that share batch statistics;
            0 for all.
        remat: parts to recompute in the backward pass, which takes time and saves memory: some of
            "backbone", "feature_network" and "heads", separated by commas.
    """

    num_classes: int = 90
    backbone: str | Callable[..., nn.Module] = "b0"
    width: int = 64
    network_repeats: int = 3
    head_repeats: int = 3
    feature_network: str | Graph | nn.Module | type[nn.Module] = "bifpn"
    fusion: str | Callable[[Array], Array] = "fast"
    upsampling: str = "nearest"
    downsampling: str = "max"
    padding: str = "same"
    backbone_padding: str = ""
    conv_bias: bool = True
    expanded_features: bool = False
    separable: bool = True
    separable_heads: bool = True
    norm: str | Callable[..., nn.Module] = "batch_norm"
    activation: str | Callable[[Array], Array] = "swish"
    min_level: int = 3
    max_level: int = 7
    anchor_scale: float = 4.0
    num_scales: int = 3
    aspect_ratios: tuple[float | tuple[float, float], ...] = ASPECT_RATIOS
    image_hw: tuple[int, int] = (512, 512)
    mean_rgb: tuple[float, float, float] = IMAGENET_MEAN
    std_rgb: tuple[float, float, float] = IMAGENET_STD
    survival_prob: float = 1.0
    dtype: str = "float32"
    batch_norm_momentum: float = BATCH_NORM_MOMENTUM
    backbone_batch_norm_epsilon: float = BATCH_NORM_EPSILON
    axis_name: str | None = None
    batch_norm_group: int = 0
    remat: str = ""

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Outputs:
        """Map normalised images [B, H, W, 3] of any height and width to `Outputs`.

        Training needs `mutable=["batch_stats"]` and, with stochastic depth, the rng stream
        "stochastic_depth". Features are in the collection "intermediates" when it is mutable.
        """
        remat = self.remat.split(",")
        shared = {
            "norm": self._norm(BATCH_NORM_EPSILON),
            "activation": ACTIVATIONS.find(self.activation),
        }
        features = self._backbone(images.astype(self.dtype), train, shared)
        self.sow("intermediates", "backbone_features", features)
        network = make_feature_network(
            self.feature_network,
            repeats=self.network_repeats,
            width=self.width,
            min_level=self.min_level,
            max_level=self.max_level,
            fusion=self.fusion,
            padding=self.padding,
            conv_bias=self.conv_bias,
            upsampling=self.upsampling,
            downsampling=self.downsampling,
            separable=self.separable,
            remat="feature_network" in remat,
            **shared,
        )
        features = network(features, train)
        levels = list(range(self.min_level, self.max_level + 1))
        if sorted(features) != levels:
            raise UserError(f"the feature network returns levels {sorted(features)}, not {levels}.")
        _check_sizes("the feature network", features, images.shape)
        self.sow("intermediates", "network_features", features)
        head = partial(
            recomputed(Head, "heads" in remat),
            repeats=self.head_repeats,
            width=self.width,
            conv_bias=self.conv_bias,
            separable=self.separable_heads,
            **shared,
        )
        per_location = self.num_scales * len(self.aspect_ratios)
        class_head = head(
            self.num_classes * per_location, output_bias=CLASS_PRIOR_BIAS, name="class_head"
        )
        logits = class_head(features, train)
        codes = head(4 * per_location, name="box_head")(features, train)
        batch = images.shape[0]
        return Outputs(
            logits.reshape(batch, -1, self.num_classes),
            codes.reshape(batch, -1, 4),
        )

    def _norm(self, epsilon: float) -> Layer:
        """Return the constructor of the normalisation layers."""
        return bind_norm(
            self.norm,
            epsilon=epsilon,
            axis_name=self.axis_name,
            momentum=self.batch_norm_momentum,
            group=self.batch_norm_group,
        )

    def _backbone(self, images: Array, train: bool, shared: dict[str, Any]) -> dict[int, Array]:
        """Return the backbone's features from `min_level` on."""
        settings = {
            **shared,
            "norm": self._norm(self.backbone_batch_norm_epsilon),
            "drop": partial(StochasticDepth, axis_name=self.axis_name),
            "survival_prob": self.survival_prob,
            "padding": self.backbone_padding or self.padding,
            "expanded_features": self.expanded_features,
            "remat": "backbone" in self.remat.split(","),
        }
        backbone = call_with_known(BACKBONES.find(self.backbone), settings, name="backbone")
        features = {
            level: x for level, x in backbone(images, train).items() if level >= self.min_level
        }
        levels = list(range(self.min_level, max(features, default=self.min_level) + 1))
        if sorted(features) != levels:
            raise UserError(
                f"backbone {self.backbone} returns levels {sorted(features)} of those from "
                f"{self.min_level} on; it must return all from min_level={self.min_level} to its "
                "coarsest."
            )
        _check_sizes(f"backbone {self.backbone}", features, images.shape)
        return features


def _check_sizes(what: str, features: dict[int, Array], images: tuple[int, ...]) -> None:
    """Raise a UserError unless features of level l have 1 / 2^l of the images' size, rounded up."""
    for level, x in features.items():
        expected = (images[0], *(-(-side // 2**level) for side in images[1:3]))
        if x.ndim != 4 or x.shape[:3] != expected:
            raise UserError(
                f"{what} returns {list(x.shape)} at level {level} for images {list(images)}; at "
                f"stride {2**level} it must be [{', '.join(map(str, expected))}, channels]."
            )


def create_model(name: str = "d0", *, num_classes: int = 90, **overrides: Any) -> EfficientDet:
    """Return a released model by name, as a linen module.

    Args:
        name: "d0" ... "d7", "d7x", "lite0" ... "lite4", "lite3x".
        num_classes: K; the published COCO models have 90 (category id - 1).
        **overrides: attributes of `EfficientDet` that replace the named model's.

    Returns:
        A module without variables: `model.init(key, images)`, `model.apply(variables, images)`.

    Raises:
        UserError: a name, attribute or value does not exist; the message gives the nearest.
    """
    check_choice("model", name, MODELS)
    settings = MODELS[name]._asdict()
    settings.pop("phi")
    side = settings.pop("image_size")
    settings |= {"image_hw": (side, side), "num_classes": num_classes, **overrides}
    fields = [f for f in EfficientDet.__dataclass_fields__ if f not in ("parent", "name")]
    for key in settings:
        check_choice("model setting", key, fields)
    if isinstance(settings["image_hw"], int):
        settings["image_hw"] = (settings["image_hw"],) * 2
    for key in ("aspect_ratios", "mean_rgb", "std_rgb", "image_hw"):
        if key in settings:
            if not isinstance(settings[key], list | tuple) or not settings[key]:
                raise UserError(f"model setting {key}={settings[key]!r} must be a list of numbers.")
            settings[key] = tuple(tuple(v) if isinstance(v, list) else v for v in settings[key])
    sides = settings["image_hw"]
    if len(sides) != 2 or not all(isinstance(side, int) and side >= 1 for side in sides):
        raise UserError(f"model setting image_hw={sides!r} must be height and width in pixels.")
    model = EfficientDet(**settings)
    check_model(model)
    if not (isinstance(model.feature_network, str) or is_module(model.feature_network)):
        graph = network_graph(model.feature_network, model.min_level, model.max_level)
        model = model.clone(feature_network=graph)
    return model


def make_anchors(model: EfficientDet, image_hw: tuple[int, int]) -> np.ndarray:
    """Return a model's anchors [A, 4] for images of `image_hw`, in the order of its outputs.

    A row is y0, x0, y1, x1 in pixels, float32.
    """
    return anchor_grid(
        image_hw,
        min_level=model.min_level,
        max_level=model.max_level,
        anchor_scale=model.anchor_scale,
        num_scales=model.num_scales,
        aspect_ratios=model.aspect_ratios,
    )
