"""What a training step becomes on platforms that are not at hand, read from its lowered program."""

import math
import re

import jax
import pytest

from experiments.paper import counts
from experiments.performance import programs

BATCH, HW = 2, (128, 128)


@pytest.fixture(scope="module")
def traced():
    """A step of D0 in bfloat16, and the number of values in its largest kernel."""
    config = counts.released_config("d0", "bfloat16")
    config.model.image_hw = HW
    model = counts.model_of(config, counts.COCO_OUTPUTS)
    step, state, batch = programs.step_to_trace(config, model, BATCH)
    largest = max(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params))
    return jax.jit(step, donate_argnums=0).trace(state, batch), largest


@pytest.fixture(scope="module", params=["cuda", "tpu"])
def lowered(request, traced):
    """The program's text for a platform, and the largest kernel."""
    step, largest = traced
    return step.lower(lowering_platforms=(request.param,)).as_text(), largest


def operands(text, operation):
    """Types of what the operations of a kind read: [("2x8x8x4", "bf16"), …] for each."""
    pattern = rf"stablehlo\.{operation}\W[^\n]*: \(?(tensor<[^>]*>(?:, tensor<[^>]*>)*)\)? ->"
    types = [re.findall(r"tensor<((?:\d+x)*)(\w+)>", found) for found in re.findall(pattern, text)]
    assert len(types) == len(re.findall(rf'= "?stablehlo\.{operation}\W', text))
    return types


def test_convolutions_are_native_in_both_directions(lowered):
    """81 of them forward; backward two of each, but the stem's image needs no gradient."""
    text, _ = lowered
    assert len(operands(text, "convolution")) == 3 * 81 - 1


def test_products_are_in_bfloat16_where_asked(lowered):
    text, _ = lowered
    for operation in ("convolution", "dot_general"):
        assert {dtype for types in operands(text, operation) for _, dtype in types} == {"bf16"}


def test_nothing_is_in_float64(lowered):
    assert not re.search(r"\bf64\b|xf64>", lowered[0])


def test_only_kernels_are_transposed(lowered):
    text, largest = lowered
    sizes = [
        math.prod(int(side) for side in shape.rstrip("x").split("x"))
        for ((shape, _),) in operands(text, "transpose")
    ]
    assert sizes
    assert max(sizes) <= largest


def test_the_loop_over_boxes_is_the_cpus(lowered, traced):
    step, _ = traced
    assert "stablehlo.while" not in lowered[0]
    assert "stablehlo.while" in step.lower(lowering_platforms=("cpu",)).as_text()
