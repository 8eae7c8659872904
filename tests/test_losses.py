import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bifpn_jax.losses import detection_loss, huber, sigmoid_focal
from bifpn_jax.matching import Targets


def focal_in_float64(logits, targets, alpha=0.25, gamma=1.5, smoothing=0.0):
    z, y = np.asarray(logits, np.float64), np.asarray(targets, np.float64)
    p = 1 / (1 + np.exp(-z))
    p_t = y * p + (1 - y) * (1 - p)
    smoothed = y * (1 - smoothing) + smoothing / 2
    cross_entropy = -smoothed * np.log(p) - (1 - smoothed) * np.log1p(-p)
    return (y * alpha + (1 - y) * (1 - alpha)) * (1 - p_t) ** gamma * cross_entropy


@pytest.mark.parametrize(
    ("logit", "target", "smoothing", "expected"),
    [
        (0.0, 1, 0.0, 0.06126613),
        (0.0, 0, 0.0, 0.1837984),
        (2.0, 1, 0.0, 0.00130595),
        (2.0, 0, 0.0, 1.31864488),
        (-4.59512, 0, 0.0, 7.54e-6),
        (2.0, 1, 0.1, 0.00233485),
    ],
)
def test_published_focal_values(logit, target, smoothing, expected):
    loss = sigmoid_focal(jnp.array([logit]), jnp.array([target]), label_smoothing=smoothing)
    np.testing.assert_allclose(loss, [expected], rtol=1e-3 if expected < 1e-5 else 5e-6)


@pytest.mark.parametrize(
    ("alpha", "gamma", "smoothing"), [(0.25, 1.5, 0), (0.4, 2, 0.1), (0.5, 0, 0)]
)
def test_focal_agrees_with_the_formula_in_float64(alpha, gamma, smoothing):
    rng = np.random.default_rng(0)
    logits = rng.uniform(-12, 12, (64, 7)).astype(np.float32)
    targets = rng.random((64, 7)) < 0.4
    loss = sigmoid_focal(logits, targets, alpha=alpha, gamma=gamma, label_smoothing=smoothing)
    expected = focal_in_float64(logits, targets, alpha, gamma, smoothing)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_focal_loss_and_gradient_agree_with_optax():
    rng = np.random.default_rng(1)
    logits = jnp.array(rng.uniform(-10, 10, (50, 6)), jnp.float32)
    targets = jnp.array(rng.random((50, 6)) < 0.3)

    def reference(z):
        return optax.sigmoid_focal_loss(z, targets.astype(jnp.float32), alpha=0.25, gamma=1.5)

    np.testing.assert_allclose(sigmoid_focal(logits, targets), reference(logits), rtol=1e-4)
    gradient = jax.jit(jax.grad(lambda z: sigmoid_focal(z, targets).sum()))(logits)
    expected = jax.jit(jax.grad(lambda z: reference(z).sum()))(logits)
    np.testing.assert_allclose(gradient, expected, rtol=2e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_focal_stays_finite_at_extreme_logits(dtype, smoothing):
    logits = jnp.array([-120.0, -60, -20, -1e-9, 0, 1e-9, 20, 60, 120, 3e4, -3e4], dtype)
    for target in (False, True):
        targets = jnp.full(logits.shape, target)

        def total(z, targets=targets):
            return sigmoid_focal(z, targets, label_smoothing=smoothing).sum()

        loss, gradient = jax.value_and_grad(total)(logits)
        assert loss.dtype == jnp.float32
        assert jnp.isfinite(loss)
        assert jnp.isfinite(gradient).all()
    # A confident mistake costs as much as its logit, with slope one.
    mistakes = jax.value_and_grad(lambda z: sigmoid_focal(z, jnp.array(False)))(120.0)
    np.testing.assert_allclose(mistakes, [0.75 * 120, 0.75], rtol=1e-6)


def test_focal_gradient_keeps_nothing_of_the_size_of_the_logits():
    logits = jax.ShapeDtypeStruct((2, 4096, 90), jnp.float32)
    classes = jax.ShapeDtypeStruct((2, 4096), jnp.int32)

    def temporary_bytes(loss):
        def total(z, classes):
            return loss(z, classes[:, :, None] == jnp.arange(90)[None, None]).sum()

        compiled = jax.jit(jax.grad(total)).lower(logits, classes).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    ours = temporary_bytes(sigmoid_focal)
    optaxs = temporary_bytes(
        lambda z, y: optax.sigmoid_focal_loss(z, y.astype(jnp.float32), alpha=0.25, gamma=1.5)
    )
    assert ours < 0.05 * optaxs


@pytest.mark.parametrize(("error", "expected"), [(0.05, 0.00125), (0.5, 0.045), (1.0, 0.095)])
def test_published_huber_values(error, expected):
    np.testing.assert_allclose(huber(jnp.array([error, -error])), [expected] * 2, rtol=1e-6)


@pytest.mark.parametrize("delta", [0.1, 1.0])
def test_huber_agrees_with_optax(delta):
    error = jnp.linspace(-2, 2, 101)
    np.testing.assert_allclose(
        huber(error, delta), optax.huber_loss(error, delta=delta), rtol=1e-5, atol=1e-8
    )
    gradient = jax.grad(lambda e: huber(e, delta).sum())(error)
    np.testing.assert_allclose(gradient, jnp.clip(error, -delta, delta), rtol=1e-5, atol=1e-7)


def loss_of(logits, codes, targets, normalizer):
    """The published loss, which does not read the anchors."""
    return detection_loss(logits, codes, targets, normalizer, jnp.zeros((codes.shape[1], 4)))


def random_batch(rng, batch=2, anchors=50, classes=6):
    logits = rng.normal(-2, 2, (batch, anchors, classes)).astype(np.float32)
    codes = rng.normal(0, 0.3, (batch, anchors, 4)).astype(np.float32)
    class_targets = np.where(
        rng.random((batch, anchors)) < 0.3, rng.integers(0, classes, (batch, anchors)), -1
    ).astype(np.int32)
    box_targets = rng.normal(0, 0.3, codes.shape).astype(np.float32)
    box_targets = np.where(class_targets[..., None] >= 0, box_targets, 0).astype(np.float32)
    positives = (class_targets >= 0).sum(1).astype(np.int32)
    return logits, codes, Targets(class_targets, box_targets, positives, class_targets)


def test_detection_loss_agrees_with_numpy():
    logits, codes, targets = random_batch(np.random.default_rng(0))
    normalizer = targets.num_positives.sum() + 1
    total, parts = jax.jit(loss_of)(logits, codes, targets, normalizer)

    one_hot = targets.class_targets[..., None] == np.arange(6)
    class_loss = focal_in_float64(logits, one_hot).sum() / normalizer
    error = np.abs(codes.astype(np.float64) - targets.box_targets)
    robust = np.where(error <= 0.1, error**2 / 2, 0.1 * (error - 0.05))
    box_loss = robust[targets.box_targets != 0].sum() / (4 * normalizer)
    np.testing.assert_allclose(parts["class_loss"], class_loss, rtol=1e-6)
    np.testing.assert_allclose(parts["box_loss"], box_loss, rtol=1e-6)
    np.testing.assert_allclose(total, class_loss + 50 * box_loss, rtol=1e-6)


def test_box_components_with_target_zero_are_left_out():
    targets = Targets(
        class_targets=jnp.array([[0, -1]]),
        box_targets=jnp.array([[[0.5, 0.0, -0.5, 0.0], [0.0] * 4]]),
        num_positives=jnp.array([1]),
        matched_box=jnp.array([[0, -1]]),
    )
    codes = jnp.full((1, 2, 4), 1.5)

    def box_loss(codes):
        return loss_of(jnp.zeros((1, 2, 3)), codes, targets, 2)[1]["box_loss"]

    loss, gradient = jax.value_and_grad(box_loss)(codes)
    np.testing.assert_allclose(loss, (0.1 * 0.95 + 0.1 * 1.95) / 8, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(gradient) != 0, [[[1, 0, 1, 0], [0, 0, 0, 0]]])


def test_low_precision_outputs_are_summed_in_float32():
    logits, codes, targets = random_batch(np.random.default_rng(2), anchors=400)
    half = jnp.array(logits, jnp.bfloat16), jnp.array(codes, jnp.bfloat16)
    total, parts = jax.jit(loss_of)(*half, targets, jnp.array(9, jnp.int32))
    exact, _ = jax.jit(loss_of)(*(x.astype(jnp.float32) for x in half), targets, 9.0)
    assert total.dtype == parts["class_loss"].dtype == parts["box_loss"].dtype == jnp.float32
    assert total == exact


def test_loss_without_positives_is_finite_and_pushes_logits_down():
    logits, codes, targets = random_batch(np.random.default_rng(3))
    targets = jax.tree.map(jnp.zeros_like, targets)._replace(
        class_targets=jnp.full(targets.class_targets.shape, -1)
    )
    loss_and_gradient = jax.jit(jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True))
    (total, parts), gradients = loss_and_gradient(logits, codes, targets, 1.0)
    assert jnp.isfinite(total)
    assert parts["box_loss"] == 0
    assert (gradients[0] > 0).all()
    assert (gradients[1] == 0).all()
