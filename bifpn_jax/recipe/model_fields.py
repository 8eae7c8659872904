"""What the fields of a config's model mean and which values they take."""

from bifpn_jax.models.backbones import BACKBONES
from bifpn_jax.models.feature_network import DOWNSAMPLINGS, UPSAMPLINGS
from bifpn_jax.models.fusion import NORMALIZERS
from bifpn_jax.models.layers import ACTIVATIONS, NORMS
from bifpn_jax.models.model_checks import DTYPES, PARTS
from bifpn_jax.models.networks import NETWORKS
from bifpn_jax.models.scaling import MODELS
from bifpn_jax.ops.convolution import PADDINGS
from bifpn_jax.recipe.fields import OWN_CODE, Field, part_field

_ORDINARY = "false: ordinary ones of 3x3"

MODEL_FIELDS = {
    "model.name": Field("The released model that the other fields start from.", tuple(MODELS)),
    "model.num_classes": Field(
        "Number of classes; 0: as many as the data has.", takes="a whole number, 0 or more"
    ),
    "model.backbone": part_field("EfficientNet; nano is half of b0.", BACKBONES),
    "model.image_hw": Field(
        "Height and width in pixels of the frame that images are fitted into.",
        takes="two numbers from 32 to 8192, such as (512, 640), or one for a square",
    ),
    "model.width": Field("Channels of the feature network and the heads.", low=1),
    "model.network_repeats": Field("Cells of the feature network.", low=1),
    "model.head_repeats": Field("Convolutions of each head before its last.", low=1),
    "model.feature_network": Field(
        "How features of several levels are joined.",
        takes=f'{", ".join(NETWORKS)}; nodes of your own, "6:3,4 5:2,5 …"; a file of them; or '
        f"{OWN_CODE}",
    ),
    "model.fusion": part_field("How a node weighs its inputs.", NORMALIZERS),
    "model.separable": Field(
        f"In the feature network depthwise separable convolutions; {_ORDINARY}."
    ),
    "model.separable_heads": Field(f"The same in the heads; {_ORDINARY}."),
    "model.upsampling": Field("How the feature network enlarges features.", tuple(UPSAMPLINGS)),
    "model.downsampling": Field("How the feature network shrinks features.", DOWNSAMPLINGS),
    "model.padding": Field(
        "Of convolutions: same as TensorFlow pads, symmetric as PyTorch does, for weights that "
        "were trained like that.",
        tuple(PADDINGS),
    ),
    "model.backbone_padding": Field(
        "Of the backbone's convolutions, where it differs; empty: as model.padding.",
        ("", *PADDINGS),
    ),
    "model.conv_bias": Field(
        "A bias before batch norm in feature network and heads, which is published but redundant."
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
    "model.num_scales": Field("Sizes of anchors per level, within an octave.", low=1),
    "model.aspect_ratios": Field(
        "Shapes of the anchors.", takes="numbers, width / height, or pairs (width, height)"
    ),
    "model.mean_rgb": Field(
        "Mean of the pixels, 0 to 255, which is subtracted.", takes="three numbers"
    ),
    "model.std_rgb": Field(
        "Their standard deviation, by which they are divided then.", takes="three numbers above 0"
    ),
    "model.survival_prob": Field(
        "Stochastic depth: how often the backbone's last block is kept; 1: always.",
        takes="a number above 0, up to 1",
    ),
    "model.batch_norm_momentum": Field(
        "Of running statistics; 0.99 is published, a run of a few hundred steps needs 0.9.",
        takes="a number from 0 to below 1",
    ),
    "model.batch_norm_group": Field(
        "How many neighbouring devices share batch statistics; 0: all, 1: each has its own.", low=0
    ),
    "model.backbone_batch_norm_epsilon": Field(
        "Of the backbone's batch norms; 1e-5 in PyTorch's own ones.",
        takes="a number between 0 and 1",
    ),
    "model.remat": Field(
        "Parts that are computed once more in the backward pass, which saves memory for time.",
        takes=f"some of {', '.join(PARTS)} with commas between; empty: none",
    ),
    "model.dtype": Field(
        "Type of the computation; bfloat16 halves memory on accelerators.", DTYPES
    ),
}
