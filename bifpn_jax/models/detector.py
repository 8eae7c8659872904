"""EfficientDet (arXiv 1911.09070): backbone, feature network, class and box heads."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from bifpn_jax.anchors import ASPECT_RATIOS, anchor_grid
from bifpn_jax.errors import UserError
from bifpn_jax.models.backbones.efficientnet import BACKBONES, EfficientNet
from bifpn_jax.models.feature_network import (
    DOWNSAMPLINGS,
    UPSAMPLINGS,
    make_feature_network,
)
from bifpn_jax.models.fusion import check_fusion
from bifpn_jax.models.graphs import Graph
from bifpn_jax.models.heads import CLASS_PRIOR_BIAS, Head
from bifpn_jax.models.layers import (
    ACTIVATIONS,
    BATCH_NORM_EPSILON,
    BATCH_NORM_MOMENTUM,
    recomputed,
)
from bifpn_jax.models.networks import is_module, network_graph
from bifpn_jax.models.scaling import IMAGENET_MEAN, IMAGENET_STD, MODELS, check_normalization
from bifpn_jax.named_parts import unknown
from bifpn_jax.ops.convolution import PADDINGS

Array = jax.Array

# What `remat` may name.
PARTS = ("backbone", "feature_network", "heads")


class Outputs(NamedTuple):
    """What the network predicts for every anchor; anchors ordered level, y, x, anchor.

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
        backbone: key of `efficientnet.BACKBONES`.
        width: channels of the feature network and the heads.
        network_repeats: cells of the feature network.
        head_repeats: convolutions in each head before its predictor.
        feature_network: key of `networks.NETWORKS`; a graph of one's own, also as text
            ("6:3,4 5:2,5 …", see `graphs`); or a linen module, called with the backbone's
            ({level: [B, H_l, W_l, C_l]}, train), that returns all levels with `width` channels. Its
            class is given those of the settings here that it has as attributes.
        fusion: key of `fusion.NORMALIZERS`, or a function of weights.
        upsampling, downsampling: of features inside the feature network, "nearest" or "bilinear"
            and "max" (a max-pool of 3x3) or "bilinear".
        padding: "same", TensorFlow's, or "symmetric", PyTorch's; weights fit one of them only.
        backbone_padding: the same for the backbone alone, where it differs; "" for `padding`.
        conv_bias: bias of the convolutions before a batch norm in the feature network and the
            heads, where it is redundant but published.
        expanded_features: features come from inside the backbone's blocks, before the projection.
        separable, separable_heads: False makes the convolutions of the feature network, or of the
            heads, ordinary 3x3 ones, as in RetinaNet.
        activation: key of `layers.ACTIVATIONS`, or a function. Parts of one's own can also be given
            as "FILE.py:NAME", see `named_parts`.
        min_level, max_level: pyramid levels; level l has stride 2^l.
        anchor_scale: size of the smallest anchor in strides.
        num_scales: anchor octave steps per level.
        aspect_ratios: numbers (width / height) or pairs (width factor, height factor).
        image_hw: the input size the model was designed for; any other height and width works.
        mean_rgb, std_rgb: normalisation of the input in units of 0..255.
        survival_prob: stochastic depth of the backbone's last block; 1 switches it off.
        dtype: of the computation, "float32" or "bfloat16"; parameters are float32.
        batch_norm_momentum: of the running batch statistics; the published 0.99 needs some hundred
            steps to follow the weights, very short runs need less.
        backbone_batch_norm_epsilon: of the backbone alone; 1e-5 in PyTorch's own ones.
        axis_name: mapped axis over which batch statistics are averaged, or None.
        batch_norm_group: so many neighbouring replicas of that axis have batch statistics of their
            own; 0 for all together.
        remat: parts whose inside is computed once more in the backward pass, which saves memory
            for time: some of "backbone", "feature_network" and "heads", with commas between.
    """

    num_classes: int = 90
    backbone: str = "b0"
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
        """Normalised images [B, H, W, 3] of any height and width -> `Outputs`.

        Training needs `mutable=["batch_stats"]` and, with stochastic depth, the rng stream
        "stochastic_depth". Features are in the collection "intermediates" when it is mutable.
        """
        per_location = self.num_scales * len(self.aspect_ratios)
        remat = self.remat.split(",")
        shared = {
            "activation": self.activation,
            "axis_name": self.axis_name,
            "momentum": self.batch_norm_momentum,
            "batch_norm_group": self.batch_norm_group,
        }
        features = EfficientNet(
            self.backbone,
            survival_prob=self.survival_prob,
            padding=self.backbone_padding or self.padding,
            epsilon=self.backbone_batch_norm_epsilon,
            expanded_features=self.expanded_features,
            remat="backbone" in remat,
            name="backbone",
            **shared,
        )(images.astype(self.dtype), train)
        features = {level: x for level, x in features.items() if level >= self.min_level}
        self.sow("intermediates", "backbone_features", features)
        network_settings = {
            "repeats": self.network_repeats,
            "width": self.width,
            "min_level": self.min_level,
            "max_level": self.max_level,
            "fusion": self.fusion,
            "padding": self.padding,
            "conv_bias": self.conv_bias,
            "upsampling": self.upsampling,
            "downsampling": self.downsampling,
            "separable": self.separable,
            "remat": "feature_network" in remat,
            **shared,
        }
        features = make_feature_network(self.feature_network, **network_settings)(features, train)
        levels = list(range(self.min_level, self.max_level + 1))
        if sorted(features) != levels:
            raise UserError(f"the feature network returns levels {sorted(features)}, not {levels}.")
        self.sow("intermediates", "network_features", features)
        shared |= {
            "repeats": self.head_repeats,
            "width": self.width,
            "conv_bias": self.conv_bias,
            "separable": self.separable_heads,
        }
        head = recomputed(Head, "heads" in remat)
        logits = head(
            self.num_classes * per_location,
            output_bias=CLASS_PRIOR_BIAS,
            name="class_head",
            **shared,
        )(features, train)
        codes = head(4 * per_location, name="box_head", **shared)(features, train)
        batch = images.shape[0]
        return Outputs(
            logits.reshape(batch, -1, self.num_classes),
            codes.reshape(batch, -1, 4),
        )


def create_model(name: str = "d0", *, num_classes: int = 90, **overrides: Any) -> EfficientDet:
    """A released model by name, as a linen module.

    Args:
        name: "d0" ... "d7", "d7x", "lite0" ... "lite4", "lite3x".
        num_classes: K; the published COCO models have 90 (category id - 1).
        **overrides: attributes of `EfficientDet` that replace the named model's.

    Returns:
        A module without variables: `model.init(key, images)`, `model.apply(variables, images)`.

    Raises:
        UserError: a name, attribute or value that does not exist, with the nearest that does.
    """
    _check_choice("model", name, MODELS)
    settings = MODELS[name]._asdict()
    settings.pop("phi")
    side = settings.pop("image_size")
    settings |= {"image_hw": (side, side), "num_classes": num_classes, **overrides}
    fields = [f for f in EfficientDet.__dataclass_fields__ if f not in ("parent", "name")]
    for key in settings:
        _check_choice("model setting", key, fields)
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
    _check_choice("backbone", model.backbone, BACKBONES)
    check_fusion(model.fusion)
    _check_choice("upsampling", model.upsampling, UPSAMPLINGS)
    _check_choice("downsampling", model.downsampling, DOWNSAMPLINGS)
    _check_choice("padding", model.padding, PADDINGS)
    _check_choice("backbone_padding", model.backbone_padding or model.padding, PADDINGS)
    ACTIVATIONS.find(model.activation)
    _check_choice("dtype", model.dtype, ("float32", "bfloat16"))
    for part in model.remat.split(",") if model.remat else ():
        _check_choice("part in remat", part, PARTS)
    for key in ("num_classes", "width", "network_repeats", "head_repeats", "num_scales"):
        value = getattr(model, key)
        if type(value) is not int or value < 1:
            raise UserError(f"model setting {key}={value!r} must be a whole number, at least 1.")
    group = model.batch_norm_group
    if not isinstance(group, int) or group < 0:
        raise UserError(
            f"model setting batch_norm_group={group!r} must be a whole number, 0 for all devices."
        )
    for key in ("conv_bias", "expanded_features", "separable", "separable_heads"):
        if not isinstance(getattr(model, key), bool):
            raise UserError(f"model setting {key}={getattr(model, key)!r} must be True or False.")
    check_normalization(model.mean_rgb, model.std_rgb)
    if model.min_level not in (3, 4, 5) or model.max_level not in range(5, 11):
        raise UserError(
            f"model levels {model.min_level}-{model.max_level} do not work: min_level must be 3-5 "
            "and max_level 5-10."
        )
    if model.min_level == model.max_level:
        raise UserError(
            f"model levels {model.min_level}-{model.max_level} do not work: a feature network "
            "needs two levels or more."
        )
    network = model.feature_network
    if isinstance(network, type) and not issubclass(network, nn.Module):
        raise UserError(f"feature_network={network.__name__} must be a class of linen modules.")
    graph = network_graph(model.feature_network, model.min_level, model.max_level)
    if not (isinstance(model.feature_network, str) or is_module(model.feature_network)):
        model = model.clone(feature_network=graph)
    if not 0.0 <= model.batch_norm_momentum < 1.0:
        raise UserError(
            f"model setting batch_norm_momentum={model.batch_norm_momentum} must be in [0, 1)."
        )
    if not 0.0 < model.backbone_batch_norm_epsilon < 1.0:
        raise UserError(
            f"model setting backbone_batch_norm_epsilon={model.backbone_batch_norm_epsilon} must "
            "be in (0, 1)."
        )
    if not 0.0 < model.survival_prob <= 1.0:
        raise UserError(f"model setting survival_prob={model.survival_prob} must be in (0, 1].")
    return model


def _check_choice(what: str, value: str, choices: Any) -> None:
    if value not in choices:
        raise unknown(what, value, choices)


def make_anchors(model: EfficientDet, image_hw: tuple[int, int]) -> np.ndarray:
    """Anchors [A, 4] of a model for images of `image_hw`, rows in the order of its outputs.

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
