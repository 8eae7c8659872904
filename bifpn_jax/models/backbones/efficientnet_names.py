"""What the files of other code bases call the layers of `EfficientNet`.

A layer is its path inside the backbone, `("block_3", "expand_conv")`; see `family.Family.names`.
"""

from collections.abc import Sequence

from bifpn_jax.models.backbones.efficientnet import VARIANTS, Block, block_table

_TIMM_STEM = {"stem_conv": "conv_stem", "stem_bn": "bn1"}
_TIMM = {
    "expand_conv": "conv_pw",
    "expand_bn": "bn1",
    "depthwise_conv": "conv_dw",
    "depthwise_bn": "bn2",
    "project_conv": "conv_pwl",
    "project_bn": "bn3",
}
# Without expansion the projection is the block's only pointwise convolution.
_TIMM_WITHOUT_EXPANSION = {
    "depthwise_conv": "conv_dw",
    "depthwise_bn": "bn1",
    "project_conv": "conv_pw",
    "project_bn": "bn2",
}
_EFFICIENTNET_PYTORCH_STEM = {"stem_conv": "_conv_stem", "stem_bn": "_bn0"}
# A block without expansion has no _expand_conv and no _bn0; the others keep their names.
_EFFICIENTNET_PYTORCH = {
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "depthwise_conv": "_depthwise_conv",
    "depthwise_bn": "_bn1",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
}
_TENSORFLOW_STEM = {"stem_conv": "stem/conv2d", "stem_bn": "stem/tpu_batch_normalization"}


def timm(layer: Sequence[str], variant: str) -> str:
    """`blocks.1.1.conv_pw`: blocks are counted within their stage."""
    module, *inside = layer
    if not inside:
        return _TIMM_STEM[module]
    block = _block(module, variant)
    if inside[0] == "squeeze_excite":
        name = f"se.conv_{inside[1]}"
    else:
        name = (_TIMM if block.expand != 1 else _TIMM_WITHOUT_EXPANSION)[inside[0]]
    return f"blocks.{block.stage}.{block.index}.{name}"


def efficientnet_pytorch(layer: Sequence[str], variant: str) -> str:
    """`_blocks.3._expand_conv`: blocks are counted through."""
    module, *inside = layer
    if not inside:
        return _EFFICIENTNET_PYTORCH_STEM[module]
    is_gate = inside[0] == "squeeze_excite"
    name = f"_se_{inside[1]}" if is_gate else _EFFICIENTNET_PYTORCH[inside[0]]
    return f"_blocks.{_number(module)}.{name}"


def tensorflow(layer: Sequence[str], variant: str) -> str:
    """`efficientnet-b0/blocks_3/conv2d`: layers of one kind are numbered in the order of use."""
    module, *inside = layer
    scope = f"efficientnet-{variant}"
    if not inside:
        return f"{scope}/{_TENSORFLOW_STEM[module]}"
    scope = f"{scope}/blocks_{_number(module)}"
    if inside[0] == "squeeze_excite":
        return f"{scope}/se/{_numbered('conv2d', ['reduce', 'expand'].index(inside[1]))}"
    what, kind = inside[0].split("_")
    expands = _block(module, variant).expand != 1
    if kind == "bn":
        order = ["expand", "depthwise", "project"] if expands else ["depthwise", "project"]
        return f"{scope}/{_numbered('tpu_batch_normalization', order.index(what))}"
    if what == "depthwise":
        return f"{scope}/depthwise_conv2d"
    order = ["expand", "project"] if expands else ["project"]
    return f"{scope}/{_numbered('conv2d', order.index(what))}"


NAMES = {"timm": timm, "efficientnet_pytorch": efficientnet_pytorch, "tensorflow": tensorflow}


def _number(module: str) -> int:
    return int(module.removeprefix("block_"))


def _block(module: str, variant: str) -> Block:
    _, blocks = block_table(VARIANTS[variant])
    return blocks[_number(module)]


def _numbered(name: str, position: int) -> str:
    return f"{name}_{position}" if position else name
