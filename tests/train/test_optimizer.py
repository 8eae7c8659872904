import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bifpn_jax.errors import UserError
from bifpn_jax.train.optimizer import (
    decay_mask,
    ema_decay,
    freeze_mask,
    make_optimizer,
    update_ema,
)

PARAMS = {
    "backbone": {
        "stem": {"kernel": (3, 4), "bias": (4,)},
        "norm": {"scale": (4,), "bias": (4,)},
    },
    "fusion": {"weights": (3,)},
    "class_net": {"kernel": (4, 5), "bias": (5,)},
}


def draw(seed, size=1.0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: (size * rng.standard_normal(shape)).astype(np.float32),
        PARAMS,
        is_leaf=lambda shape: isinstance(shape, tuple),
    )


def flat(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf, np.float64)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def run(optimizer, params, gradients):
    """Applies the optimizer under jit; returns the parameters after every step and its state."""

    @jax.jit
    def update(params, state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    history = []
    for gradient in gradients:
        params, state = update(params, state, gradient)
        history.append(params)
    return history, state


def sgd_reference(params, gradients, *, rates, momentum, decay, clip_each, clip, frozen=()):
    """Published SGD in float64: L2 gradient, clip each, clip all, momentum, step."""
    params = flat(params)
    velocity = dict.fromkeys(params, 0.0)
    for rate, gradient in zip(rates, gradients, strict=True):
        total = {
            name: g + (decay * params[name] if name.endswith("kernel") else 0.0)
            for name, g in flat(gradient).items()
            if not name.startswith(frozen)
        }
        if clip_each is not None:
            total = {n: g * min(1.0, clip_each / np.linalg.norm(g)) for n, g in total.items()}
        if clip is not None:
            norm = np.sqrt(sum(np.sum(g**2) for g in total.values()))
            total = {n: g * min(1.0, clip / norm) for n, g in total.items()}
        for name, g in total.items():
            velocity[name] = momentum * velocity[name] + g
            params[name] = params[name] - rate * velocity[name]
        yield dict(params)


# The largest gradient has a norm of about 0.2 (nothing is clipped), 9 (only all together are) or 70
# (clipped on its own too); the decay is large enough to show in the norms.
@pytest.mark.parametrize("size", [0.05, 2.0, 15.0])
@pytest.mark.parametrize(("clip_each", "clip"), [(10.0, 10.0), (None, 10.0), (3.0, None)])
def test_sgd_against_numpy_over_several_steps(size, clip_each, clip):
    params = draw(0)
    gradients = [draw(seed, size) for seed in range(1, 5)]
    rates = [0.1, 0.2, 0.05, 0.01]
    optimizer = make_optimizer(
        lambda step: jnp.asarray(rates, jnp.float32)[step],
        params,
        weight_decay=0.5,
        clip_each_norm=clip_each,
        clip_norm=clip,
    )
    history, _ = run(optimizer, params, gradients)
    reference = sgd_reference(
        params, gradients, rates=rates, momentum=0.9, decay=0.5, clip_each=clip_each, clip=clip
    )
    for ours, expected in zip(history, reference, strict=True):
        for name, value in flat(ours).items():
            np.testing.assert_allclose(value, expected[name], rtol=2e-6, atol=2e-6, err_msg=name)


def test_decay_is_inside_the_clipping():
    params = {"kernel": jnp.full((1,), 30.0)}
    optimizer = make_optimizer(lambda step: 1.0, params, weight_decay=1.0)
    updates, _ = optimizer.update({"kernel": jnp.zeros((1,))}, optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], [-10.0], rtol=1e-6)


def test_the_decay_is_the_gradient_of_half_the_squared_kernel():
    params = draw(0)
    decay, lr = 4e-5, 1.0
    mask = decay_mask(params)

    def l2(params):
        squares = jax.tree.map(lambda w, m: jnp.sum(w**2) if m else 0.0, params, mask)
        return 0.5 * decay * sum(jax.tree.leaves(squares))

    optimizer = make_optimizer(lambda step: lr, params, weight_decay=decay)
    updates, _ = optimizer.update(
        jax.tree.map(np.zeros_like, params), optimizer.init(params), params
    )
    expected = jax.grad(l2)(params)
    jax.tree.map(
        lambda u, g: np.testing.assert_allclose(u, -lr * np.asarray(g), rtol=1e-6),
        updates,
        expected,
    )


def test_only_kernels_decay():
    decayed = {name for name, value in flat(decay_mask(draw(0))).items() if value}
    assert decayed == {"backbone/stem/kernel", "class_net/kernel"}


def test_adamw_decay_is_decoupled():
    params, gradient = draw(0), draw(1)
    optimizer = make_optimizer(
        lambda step: 0.1, params, name="adamw", weight_decay=0.01, clip_norm=None,
        clip_each_norm=None,
    )  # fmt: skip
    history, _ = run(optimizer, params, [gradient])
    for name, w in flat(params).items():
        g = flat(gradient)[name]
        step = g / (np.abs(g) + 1e-8) + (0.01 * w if name.endswith("kernel") else 0.0)
        np.testing.assert_allclose(flat(history[0])[name], w - 0.1 * step, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("freeze", ["backbone/.*", "backbone", "(backbone)"])
def test_frozen_parameters_do_not_change_and_count_in_no_norm(name, freeze):
    params = draw(0)
    gradients = [draw(seed, 20.0) for seed in range(1, 4)]
    settings = {"name": name, "weight_decay": 0.1}
    optimizer = make_optimizer(lambda step: 0.1, params, freeze=freeze, **settings)
    history, _ = run(optimizer, params, gradients)
    jax.tree.map(np.testing.assert_array_equal, history[-1]["backbone"], params["backbone"])

    rest = {key: value for key, value in params.items() if key != "backbone"}
    alone = make_optimizer(lambda step: 0.1, rest, **settings)
    rest_gradients = [{key: g[key] for key in rest} for g in gradients]
    rest_history, _ = run(alone, rest, rest_gradients)
    for key in rest:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
            history[-1][key],
            rest_history[-1][key],
        )
        assert not np.array_equal(
            jax.tree.leaves(history[-1][key])[0], jax.tree.leaves(params[key])[0]
        )


def test_state_has_the_same_structure_whatever_is_frozen_or_clipped():
    params = draw(0)
    plain = make_optimizer(lambda step: 0.1, params)
    other = make_optimizer(
        lambda step: 0.1, params, freeze="backbone", clip_norm=None, clip_each_norm=None,
        weight_decay=0.0,
    )  # fmt: skip
    assert jax.tree.structure(plain.init(params)) == jax.tree.structure(other.init(params))


def test_parameters_frozen_in_a_resumed_run_ignore_their_momentum():
    params = draw(0)
    _, state = run(make_optimizer(lambda step: 0.1, params), params, [draw(1)])
    frozen = make_optimizer(lambda step: 0.1, params, freeze="class_net")
    updates, _ = frozen.update(draw(2), state, params)
    assert not np.any(updates["class_net"]["kernel"])
    assert np.any(updates["backbone"]["stem"]["kernel"])


def test_state_is_float32_and_shapes_are_enough():
    shapes = jax.eval_shape(lambda: draw(0))
    optimizer = make_optimizer(lambda step: 0.1, shapes, freeze="fusion")
    state = jax.eval_shape(optimizer.init, shapes)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(state)} == {"float32", "int32"}


@pytest.mark.parametrize(
    ("freeze", "named"),
    [
        ("bakcbone/.*", "backbone"),
        ("stem", "backbone/stem"),
        ("zzz", "backbone"),
        ("class_ne/", "class_net"),
        ("(", "not a regular expression"),
    ],
)
def test_a_freeze_that_matches_nothing_names_the_closest(freeze, named):
    with pytest.raises(UserError, match=named) as error:
        make_optimizer(lambda step: 0.1, draw(0), freeze=freeze)
    assert repr(freeze) in str(error.value)
    assert "\n" not in str(error.value)


def test_freeze_matches_from_the_start_only():
    mask = flat(freeze_mask(draw(0), "backbone/(stem|norm)/bias|.*net"))
    assert {name for name, value in mask.items() if value} == {
        "backbone/stem/bias",
        "backbone/norm/bias",
        "class_net/kernel",
        "class_net/bias",
    }


def test_unknown_optimizer():
    with pytest.raises(UserError, match="did you mean 'adamw'"):
        make_optimizer(lambda step: 0.1, draw(0), name="adam")


def test_ema_decay_warms_up():
    steps = jnp.asarray([0, 1, 90, 44979, 45000, 562500], jnp.int32)
    decays = jax.vmap(ema_decay)(steps)
    assert decays.dtype == jnp.float32
    expected = [0.1, 2 / 11, 0.91, 44980 / 44989, 0.9998, 0.9998]
    np.testing.assert_allclose(decays, expected, rtol=1e-6)
    assert float(ema_decay(10**6, decay=0.99)) == np.float32(0.99)


@given(steps=st.integers(1, 6), start=st.integers(0, 10**5))
@settings(max_examples=20, deadline=None)
def test_ema_against_numpy(steps, start):
    ema = draw(0)
    expected = flat(ema)
    for step in range(start, start + steps):
        new = draw(step)
        ema = update_ema(ema, new, ema_decay(step))
        decay = min(0.9998, (1 + step) / (10 + step))
        expected = {n: decay * e + (1 - decay) * flat(new)[n] for n, e in expected.items()}
    for name, value in flat(ema).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)
    assert {leaf.dtype for leaf in jax.tree.leaves(ema)} == {np.dtype("float32")}
