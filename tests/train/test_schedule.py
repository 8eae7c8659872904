import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bifpn_jax.errors import UserError
from bifpn_jax.train.schedule import learning_rate, make_schedule, peak_learning_rate

PUBLISHED = {
    "peak": 0.08,
    "total_steps": 562500,  # 300 epochs of 120000 images at batch 64
    "warmup_steps": 1875,
    "warmup_init": 0.008,
}


@pytest.mark.parametrize(
    ("step", "expected", "digits"),
    [
        (0, 0.008, 1e-9),
        (1874, 0.0799616, 5e-8),
        (1875, 0.0799978, 5e-8),
        (281250, 0.0397899, 5e-8),
        (560625, 0.0, 0.0),
        (562500, 2.2e-6, 5e-8),
    ],
)
def test_published_cosine(step, expected, digits):
    rate = jax.jit(make_schedule(**PUBLISHED))(jnp.int32(step))
    assert rate.dtype == jnp.float32
    assert rate.shape == ()
    assert abs(float(rate) - expected) <= digits


@given(step=st.integers(0, 562500), offset=st.booleans())
@settings(max_examples=50, deadline=None)
def test_cosine_against_the_formula_in_float64(step, offset):
    peak, total, warmup = 0.08, 562500, 1875
    if step < warmup:
        expected = 0.008 + (peak - 0.008) * step / warmup
    else:
        angle = math.pi * (step - warmup * offset) / (total - warmup)
        expected = 0.5 * peak * (1 + math.cos(angle))
    rate = make_schedule(**PUBLISHED, offset_cosine=offset)(step)
    np.testing.assert_allclose(float(rate), expected, rtol=1e-6, atol=1e-15)


def test_published_cosine_jumps_down_after_the_warmup_and_rises_at_the_end():
    schedule = make_schedule(**PUBLISHED)
    assert float(schedule(1875)) < 0.08
    assert float(schedule(560625)) == 0.0
    assert float(schedule(562500)) > float(schedule(561000)) > 0.0


def test_offset_cosine_is_continuous_and_ends_at_zero():
    schedule = jax.vmap(
        make_schedule(**{**PUBLISHED, "total_steps": 1000, "warmup_steps": 100}, offset_cosine=True)
    )
    rates = np.asarray(schedule(jnp.arange(1101)))
    assert rates[100] == np.float32(0.08)
    assert np.abs(np.diff(rates)).max() < 0.0008
    assert (np.diff(rates[:101]) > 0).all()
    assert (np.diff(rates[100:1001]) < 0).all()
    assert (rates[1000:] == 0.0).all()


def test_step_decay_drops_at_epochs_200_and_250_of_300():
    schedule = make_schedule(**PUBLISHED, decay="step")
    steps = [1875, 200 * 1875 - 1, 200 * 1875, 250 * 1875 - 1, 250 * 1875, 562500]
    rates = [float(schedule(step)) for step in steps]
    np.testing.assert_allclose(rates, [0.08, 0.08, 0.008, 0.008, 0.0008, 0.0008], rtol=1e-6)
    assert float(schedule(0)) == np.float32(0.008)


def test_constant_after_the_warmup():
    schedule = make_schedule(
        peak=0.1, total_steps=10, warmup_steps=2, warmup_init=0.0, decay="constant"
    )
    rates = [float(schedule(step)) for step in range(4)]
    np.testing.assert_allclose(rates, [0.0, 0.05, 0.1, 0.1], rtol=1e-6)


@pytest.mark.parametrize("decay", ["cosine", "step", "constant"])
def test_without_warmup_starts_at_the_peak(decay):
    rate = learning_rate(0, peak=0.3, total_steps=10, warmup_steps=0, decay=decay)
    assert rate.dtype == jnp.float32
    assert float(rate) == np.float32(0.3)


@pytest.mark.parametrize("decay", ["cosine", "step", "constant"])
def test_traced_step_under_strict_promotion(decay):
    with jax.numpy_dtype_promotion("strict"):
        rate = jax.jit(make_schedule(**PUBLISHED, decay=decay))(jnp.int32(7))
    assert float(rate) == pytest.approx(0.008 + 0.072 * 7 / 1875)


def test_peak_scales_with_the_batch():
    assert peak_learning_rate(128) == pytest.approx(0.16)
    assert peak_learning_rate(64) == pytest.approx(0.08)
    assert peak_learning_rate(8, base=0.04) == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"decay": "cosin"}, "did you mean 'cosine'"),
        ({"warmup_steps": 562500}, "shorten the warm-up"),
        ({"warmup_steps": -1}, "-1"),
        ({"warmup_steps": 300000}, "offset_cosine=True"),
    ],
)
def test_settings_without_a_curve_are_refused(change, named):
    with pytest.raises(UserError, match=named) as error:
        make_schedule(**{**PUBLISHED, **change})
    assert "\n" not in str(error.value)
