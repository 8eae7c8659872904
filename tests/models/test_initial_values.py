"""Initial values: functions of seed and path, with the distributions of `model.init`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from bifpn_jax import create_model
from bifpn_jax.models.initial_values import init_variables, initial_values, variable_shapes
from bifpn_jax.models.initializers import Draws, backbone_init

NANO = {"backbone": "nano", "width": 8, "network_repeats": 1, "head_repeats": 1}


def nano(**settings):
    return create_model("d0", **NANO | settings, num_classes=3, image_hw=(64, 64))


@pytest.fixture(scope="module")
def model():
    return nano()


@pytest.fixture(scope="module")
def values(model):
    return initial_values(model, 0)


def shapes_of(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def is_constant(value):
    return value.min() == value.max()


def test_the_seed_alone_decides(model, values):
    again, other = (initial_values(model, seed) for seed in (0, 1))
    for path, value in values.items():
        np.testing.assert_array_equal(value, again[path])
        # What is constant is so with any seed.
        assert np.array_equal(value, other[path]) == is_constant(value)


def test_structure_and_shapes_are_those_of_the_models_own_init(model):
    expected = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    assert shapes_of(init_variables(model, 0)) == shapes_of(expected)
    assert shapes_of(variable_shapes(model)) == shapes_of(expected)


# One of every part and kind, because hundreds of draws take long to compile.
EXAMPLES = [
    "params/backbone/stem_conv/kernel",
    "params/backbone/block_1/expand_conv/kernel",
    "params/backbone/block_1/depthwise_conv/kernel",
    "params/backbone/block_1/squeeze_excite/reduce/kernel",
    "params/backbone/block_1/project_bn/scale",
    "params/feature_network/cell_0/node_0_conv/depthwise/kernel",
    "params/feature_network/cell_0/node_0_conv/pointwise/kernel",
    "params/class_head/conv_0/depthwise/kernel",
    "params/class_head/conv_0/pointwise/kernel",
    "params/class_head/predictor/pointwise/kernel",
    "params/class_head/predictor/pointwise/bias",
    "batch_stats/backbone/stem_bn/var",
]


def test_distributions_are_those_of_the_models_own_init(model, values):
    @jax.jit
    def own_init():
        variables = model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
        flat = traverse_util.flatten_dict(variables, sep="/")
        return {name: flat[name] for name in EXAMPLES}

    for name, theirs in jax.device_get(own_init()).items():
        ours = values[tuple(name.split("/"))]
        if is_constant(theirs):
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
            continue
        # Both are known to 1 / sqrt(2 n); the largest of a uniform or cut distribution better.
        assert ours.std() == pytest.approx(theirs.std(), rel=6 / np.sqrt(ours.size)), name
        assert abs(ours.mean()) < 6 * ours.std() / np.sqrt(ours.size), name
        if "backbone" not in name and ours.size > 200:
            assert np.abs(ours).max() == pytest.approx(np.abs(theirs).max(), rel=0.05), name


def test_no_two_variables_and_no_two_parts_of_one_are_alike(values):
    drawn = np.concatenate([value.ravel() for value in values.values() if not is_constant(value)])
    # By chance some are: there are 2^23 uniform draws.
    assert len(np.unique(drawn)) > 0.99 * len(drawn)


def test_the_rest_of_the_network_does_not_matter(values):
    deeper = initial_values(nano(network_repeats=2, head_repeats=2), 0)
    assert len(deeper) > len(values)
    for path, value in values.items():
        np.testing.assert_array_equal(value, deeper[path], err_msg=str(path))


def test_some_variables_are_those_of_all(model, values):
    some = [path for path in values if path[1] == "box_head"]
    found = initial_values(model, 0, only=some)
    assert list(found) == some
    for path in some:
        np.testing.assert_array_equal(found[path], values[path])


class Mixed(nn.Module):
    """A kernel of ours and a layer of flax."""

    kernel_init: Draws = backbone_init

    @nn.compact
    def __call__(self, images):
        kernel = self.param("kernel", self.kernel_init, (1, 1, 3, 4))
        return nn.Dense(2, name="dense")(images @ kernel[0, 0])


def test_what_has_no_initialiser_of_ours_is_left_to_init():
    own = Mixed().init(jax.random.key(3), jnp.zeros((1, 4, 4, 3)))
    found = init_variables(Mixed(), 3)
    assert shapes_of(found) == shapes_of(own)
    for name in ("kernel", "bias"):
        np.testing.assert_allclose(
            found["params"]["dense"][name], own["params"]["dense"][name], rtol=1e-6
        )
