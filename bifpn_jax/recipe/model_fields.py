"""The meaning and allowed values of the config fields of the model."""

from bifpn_jax.models.backbones import BACKBONES
from bifpn_jax.models.feature_network import DOWNSAMPLINGS, UPSAMPLINGS
from bifpn_jax.models.fusion import NORMALIZERS
from bifpn_jax.models.layers import ACTIVATIONS, NORMS
from bifpn_jax.models.model_checks import DTYPES, PARTS
from bifpn_jax.models.networks import NETWORKS
from bifpn_jax.models.scaling import MODELS
from bifpn_jax.ops.convolution import PADDINGS
from bifpn_jax.recipe.fields import OWN_CODE, Field, part_field

_ORDINARY = "false: ordinary 3x3 convolutions"

MODEL_FIELDS = {
    "model.name": Field("The released model that the other fields start from.", tuple(MODELS)),
    "model.num_classes": Field(
        "Number of classes; 0: as many as the data has.", takes="a whole number, 0 or more"
    ),
    "model.backbone": part_field("The backbone; nano is half of b0.", BACKBONES),
    "model.image_hw": Field(
        "Height and width of the network's input in pixels.",
        takes="two numbers from 32 to 8192, such as (512, 640), or one for a square",
    ),
    "model.width": Field("Channels of the feature network and the heads.", low=1),
    "model.network_repeats": Field("Cells of the feature network.", low=1),
    "model.head_repeats": Field("Convolutions of each head before its predictor.", low=1),
    "model.feature_network": Field(
        "The network that fuses features of several levels.",
        takes=f'{", ".join(NETWORKS)}; your own nodes, "6:3,4 5:2,5 …", or a file of nodes; or '
        f"{OWN_CODE}",
    ),
    "model.fusion": part_field("How a node weights its inputs.", NORMALIZERS),
    "model.separable": Field(
        f"Depthwise separable convolutions in the feature network; {_ORDINARY}."
    ),
    "model.separable_heads": Field(f"Depthwise separable convolutions in the heads; {_ORDINARY}."),
    "model.upsampling": Field("How the feature network upsamples features.", tuple(UPSAMPLINGS)),
    "model.downsampling": Field("How the feature network downsamples features.", DOWNSAMPLINGS),
    "model.padding": Field(
        "Padding of convolutions: same, as in TensorFlow, or symmetric, as in PyTorch. It must be "
        "what the weights were trained with.",
        tuple(PADDINGS),
    ),
    "model.backbone_padding": Field(
        "Padding of the backbone's convolutions, if different; empty: as model.padding.",
        ("", *PADDINGS),
    ),
    "model.conv_bias": Field(
        "Convolutions before a batch norm in the feature network and heads have a bias; published, "
        "but redundant."
    ),
    "model.expanded_features": Field(
        "Take the backbone's features inside a block, before its projection."
    ),
    "model.norm": part_field("The normalisation layer.", NORMS),
    "model.activation": part_field("The activation function.", ACTIVATIONS),
    "model.min_level": Field(
        "The finest level of features; level l has stride 2^l.", takes="3, 4 or 5"
    ),
    "model.max_level": Field(
        "The coarsest level of features.", takes="a whole number from 5 to 10"
    ),
    "model.anchor_scale": Field(
        "Size of a level's smallest anchor in strides.", takes="a number greater than 0"
    ),
    "model.num_scales": Field("Anchor sizes per level, within an octave.", low=1),
    "model.aspect_ratios": Field(
        "Aspect ratios of the anchors.", takes="numbers, width / height, or pairs (width, height)"
    ),
    "model.mean_rgb": Field(
        "Mean RGB, 0 to 255, subtracted from the pixels.", takes="three numbers"
    ),
    "model.std_rgb": Field(
        "Standard deviation of RGB, by which the pixels are then divided.",
        takes="three numbers above 0",
    ),
    "model.survival_prob": Field(
        "Stochastic depth: probability of keeping the backbone's last block; 1: always.",
        takes="a number above 0, up to 1",
    ),
    "model.batch_norm_momentum": Field(
        "Momentum of the running statistics; 0.99 is published, but a run of a few hundred steps "
        "needs 0.9.",
        takes="a number from 0 to below 1",
    ),
    "model.batch_norm_group": Field(
        "How many neighbouring devices share batch statistics; 0: all, 1: each has its own.", low=0
    ),
    "model.backbone_batch_norm_epsilon": Field(
        "Epsilon of the backbone's batch norms; PyTorch's default is 1e-5.",
        takes="a number between 0 and 1",
    ),
    "model.remat": Field(
        "Parts to recompute in the backward pass, which takes time and saves memory.",
        takes=f"some of {', '.join(PARTS)}, separated by commas; empty: none",
    ),
    "model.dtype": Field(
        "Type of the computation; bfloat16 halves memory on accelerators.", DTYPES
    ),
}
