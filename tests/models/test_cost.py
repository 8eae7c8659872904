import flax.linen as nn
import pytest

from bifpn_jax.models.cost import Cost, forward_cost
from bifpn_jax.models.detector import create_model
from bifpn_jax.models.layers import BatchNorm, Conv, DepthwiseConv, SqueezeExcite
from bifpn_jax.models.scaling import MODELS

# Multiply-adds that the released code counts with TensorFlow's profiler; d7x is the paper's figure.
PUBLISHED = {
    "d0": 2_550_618_821,
    "d1": 6_133_752_112,
    "d2": 11_045_799_933,
    "d3": 24_982_737_931,
    "d4": 55_346_593_717,
    "d5": 135_729_505_573,
    "d6": 226_033_623_795,
    "d7": 325_473_789_367,
    "d7x": 410e9,
    "lite0": 977_617_221,
    "lite1": 1_973_728_714,
    "lite2": 3_383_232_590,
    "lite3": 7_503_764_515,
    "lite3x": 14_019_809_178,
    "lite4": 20_221_443_966,
}

OTHER_SIZES = [
    ("d0", (511, 513), 2_628_615_337),
    ("d1", (640, 1280), 12_263_120_287),
]


class TinyNetwork(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = Conv(4, 3, 2, use_bias=False)(x)
        x = nn.swish(BatchNorm(name="bn")(x, False))
        x = DepthwiseConv(5)(x)
        gate = SqueezeExcite(2, nn.relu6)(x)
        return Conv(6)(x * gate)


def test_a_network_counted_by_hand():
    """[6, 9, 3] -> [3, 5, 4] -> [3, 5, 4] -> gate -> [3, 5, 6]."""
    positions = 3 * 5
    convolutions = positions * 4 * 27 + positions * 4 * 25 + (4 * 2 + 2 * 4) + positions * 6 * 4
    swish = 2 * positions * 4
    gate = (positions * 4 + 4) + 2 + (4 + 4) + positions * 4  # mean, bias, bias, sigmoid, product
    bias = positions * 6
    cost = forward_cost(TinyNetwork(), (6, 9))
    assert cost == Cost(convolutions, swish + gate + bias)
    assert cost.multiply_adds == convolutions + (swish + gate + bias) / 2


def test_the_slices_of_the_cpu_are_not_counted():
    """A depthwise convolution costs the same in whichever form it runs."""

    class Depthwise(nn.Module):
        @nn.compact
        def __call__(self, x):
            return DepthwiseConv(3, stride=2)(x)

    assert forward_cost(Depthwise(), (8, 8)) == Cost(16 * 3 * 9, 0)


def size_of(name):
    return (MODELS[name].image_size,) * 2


@pytest.mark.parametrize(
    ("name", "hw", "published"),
    [(name, size_of(name), PUBLISHED[name]) for name in ("d0", "lite0")] + OTHER_SIZES,
)
def test_multiply_adds_are_the_published_ones(name, hw, published):
    cost = forward_cost(create_model(name), hw).multiply_adds
    assert cost == pytest.approx(published, rel=0.003)


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_multiply_adds_of_every_model(name):
    cost = forward_cost(create_model(name), size_of(name)).multiply_adds
    assert cost == pytest.approx(PUBLISHED[name], rel=0.003)
