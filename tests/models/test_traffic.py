"""Operations and bytes of small programs, counted by hand."""

import jax
import jax.numpy as jnp
import pytest

from bifpn_jax.models.traffic import Traffic, count_traffic
from bifpn_jax.ops import convolution

F32, BF16 = 4, 2


def shape(*sides, dtype="float32"):
    return jax.ShapeDtypeStruct(sides, dtype)


def count(f, *args):
    return count_traffic(jax.make_jaxpr(f)(*args))


@pytest.mark.parametrize(("dtype", "width"), [("float32", F32), ("bfloat16", BF16)])
def test_a_product_reads_both_sides_and_writes_once(dtype, width):
    found = count(jnp.dot, shape(5, 7, dtype=dtype), shape(7, 3, dtype=dtype))
    result = 5 * 3
    # The result counts as written by the product and as what the program gives back.
    assert found == Traffic(2 * 5 * 7 * 3, width * (5 * 7 + 7 * 3 + 2 * result), 0)


def test_elementwise_work_costs_nothing_but_the_result():
    assert count(lambda x: jnp.exp(x) * x + 1, shape(6, 5)) == Traffic(0, F32 * 30, 0)


def test_the_native_form_of_a_depthwise_convolution_is_counted():
    x, kernel = shape(2, 6, 6, 4), shape(3, 3, 1, 4)
    found = count(lambda x, k: convolution.depthwise_conv(x, k, stride=2), x, kernel)
    results = 2 * 3 * 3 * 4
    assert found == Traffic(2 * results * 9, F32 * (2 * 36 * 4 + 36 + 2 * results), 0)


def test_a_gradient_costs_a_convolution_per_operand():
    """Strided too: the zeros between the entries of the dilated cotangent are not multiplied."""
    x, kernel = shape(1, 8, 8, 4), shape(3, 3, 1, 4)

    def loss(x, k):
        return convolution.depthwise_conv(x, k, stride=2).sum()

    forward = 2 * 4 * 4 * 4 * 9
    assert count(jax.value_and_grad(loss, (0, 1)), x, kernel).flops == 3 * forward


@pytest.mark.devices(8)
def test_sums_over_devices_are_counted_once_per_device():
    mapped = jax.pmap(lambda x: jax.lax.psum(x * 2, "i"), "i")
    assert count(mapped, shape(8, 5, 3)).exchanged == F32 * 15
