"""Parts of one's own: by function, by the place of their code, and never by surprise."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_weights import random_variables
from tiny_model import tiny_model

from bifpn_jax import named_parts
from bifpn_jax.errors import UserError
from bifpn_jax.models.fusion import NORMALIZERS, Fusion
from bifpn_jax.models.layers import ACTIVATIONS
from bifpn_jax.models.networks import NETWORKS
from bifpn_jax.named_parts import Parts, code_names, is_code, load_code, trust_code

CODE = """
import flax.linen as nn
import jax.numpy as jnp

def squared(weights):
    return weights**2 / jnp.sum(weights**2, axis=0, keepdims=True)

def channel_squared(weights):
    return squared(weights)

def total(weights):
    return jnp.sum(weights)

def two_levels(min_level, max_level):
    return [(max_level - 1, [0, 1]), (max_level, [1, 2])]

def leaky(x):
    return nn.leaky_relu(x, 0.1)

class Lateral(nn.Module):
    width: int
    activation: str = ""

    @nn.compact
    def __call__(self, features, train=False):
        return {level: nn.Conv(self.width, (1, 1), name=f"p{level}")(x)
                for level, x in features.items()}
"""


@pytest.fixture
def place(tmp_path):
    """Places of code in a file, trusted."""
    file = tmp_path / "my_parts.py"
    file.write_text(CODE)

    def trusted(name):
        trust_code(f"{file}:{name}")
        return f"{file}:{name}"

    return trusted


def squared(weights):
    return weights**2 / jnp.sum(weights**2, axis=0, keepdims=True)


def shapes_of(model):
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    return jax.eval_shape(model.init, jax.random.key(0), image)["params"]


@pytest.mark.parametrize("form", ["function", "file"])
def test_a_fusion_of_ones_own(form, place):
    method = squared if form == "function" else place("squared")
    weights = np.array([0.5, -1.0, 2.0], np.float32)
    features = [np.full((1, 2, 2, 3), value, np.float32) for value in (1.0, 2.0, 3.0)]
    out = Fusion(method).apply({"params": {"weights": weights}}, features)
    expected = (weights**2 @ [1.0, 2.0, 3.0]) / (weights**2).sum()
    np.testing.assert_allclose(out, np.full((1, 2, 2, 3), expected), rtol=1e-6)


def test_a_channel_wise_fusion_of_ones_own(place):
    features = [np.ones((1, 2, 2, 5), np.float32)] * 3
    _, variables = Fusion(place("channel_squared")).init_with_output(jax.random.key(0), features)
    assert variables["params"]["weights"].shape == (3, 5)


def test_an_activation_and_a_graph_of_ones_own(place):
    model = tiny_model(activation=place("leaky"), feature_network=place("two_levels"))
    assert set(shapes_of(model)["feature_network"]["cell_0"]) >= {"node_0_conv", "node_1_conv"}
    image = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
    variables = random_variables(model, image)
    outputs = [m.apply(variables, image) for m in (model, model.clone(activation="relu"))]
    assert not np.allclose(outputs[0].class_logits, outputs[1].class_logits)


class Lateral(nn.Module):
    width: int

    @nn.compact
    def __call__(self, features, train=False):
        return {
            level: nn.Conv(self.width, (1, 1), name=f"p{level}")(x)
            for level, x in features.items()
            if level < 7
        }


@pytest.mark.parametrize("form", ["class", "module", "file"])
def test_a_feature_network_of_ones_own_is_a_linen_module(form, place):
    network = {"class": Lateral, "module": Lateral(width=16), "file": place("Lateral")}[form]
    model = tiny_model(feature_network=network, min_level=4, max_level=5)
    params = shapes_of(model)["feature_network"]
    assert {name: leaf["kernel"].shape[-1] for name, leaf in params.items()} == {"p4": 16, "p5": 16}
    assert hash(model) == hash(model.clone())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fusion": lambda w: jnp.sum(w)}, r"makes \(\) of weights \(3,\); it must keep"),
        ({"fusion": lambda w: w[:, :, :]}, r"fails for weights \(3,\)"),
        ({"fusion": 3}, "fusion 3 fails"),
        ({"fusion": "fsat"}, "unknown fusion 'fsat': did you mean 'fast'"),
        ({"activation": "swsh"}, "unknown activation 'swsh': did you mean 'swish'"),
        ({"feature_network": 5}, "feature_network=5 is not a graph"),
        ({"feature_network": dict}, "feature_network=dict must be a class of linen modules"),
        ({"feature_network": "bifn"}, "unknown feature_network 'bifn': did you mean 'bifpn'"),
        (
            {"fusion": "nowhere.py:x"},
            "nowhere.py:x is code in a file, which is not run without consent",
        ),
        (
            {"feature_network": "os:path"},
            "os:path is code in a file, which is not run without consent",
        ),
    ],
)
def test_what_is_no_part_is_one_line(settings, message):
    with pytest.raises(UserError, match=message) as error:
        tiny_model(**settings)
    assert "\n" not in str(error.value)


def test_a_network_without_a_level_is_refused():
    model = tiny_model(feature_network=Lateral, min_level=5, max_level=7)
    with pytest.raises(UserError, match=r"returns levels \[5\], not \[5, 6, 7\]"):
        shapes_of(model)


@pytest.mark.parametrize("parts", [NORMALIZERS, NETWORKS, ACTIVATIONS], ids=lambda p: p.what)
def test_nothing_is_added_to_the_named_parts(parts):
    before = dict(parts)
    with pytest.raises(UserError, match=f"set {parts.what}=FILE.py:NAME"):
        parts["mine"] = squared
    assert dict(parts) == before


def test_code_is_run_once_and_only_when_trusted(tmp_path):
    file, counter = tmp_path / "counting.py", tmp_path / "runs"
    file.write_text(
        f"with open({str(counter)!r}, 'a') as out:\n    out.write('x')\ndef f(w):\n    return w\n"
    )
    with pytest.raises(UserError, match="not run without consent"):
        load_code(f"{file}:f")
    assert not counter.exists()
    trust_code(f"{file}:f")
    assert load_code(f"{file}:f") is load_code(f"{file}:f")
    assert counter.read_text() == "x"


@pytest.mark.parametrize(
    ("code", "name", "message"),
    [
        (None, "f", "no such file of code"),
        ("def f(:", "f", r"does not run: SyntaxError: .* \(part\.py, line 1\)$"),
        ("1 / 0", "f", r"does not run: ZeroDivisionError: .* by zero \(.*part\.py, line 1\)$"),
        (
            "import json\njson.loads('x')",
            "f",
            r"does not run: JSONDecodeError: .* \(.*part\.py, line 2\)$",
        ),
        ("def squared(w): return w", "sqared", "there is no sqared in .*; did you mean squared"),
        ("", "f", "there is no f in "),
    ],
)
def test_code_that_cannot_be_used_is_one_line(tmp_path, code, name, message):
    file = tmp_path / "part.py"
    if code is not None:
        file.write_text(code)
    trust_code(f"{file}:{name}")
    with pytest.raises(UserError, match=message) as error:
        load_code(f"{file}:{name}")
    assert "\n" not in str(error.value)


def test_a_package_can_hold_the_code(monkeypatch):
    monkeypatch.setattr(named_parts, "_trusted", {"flax.linen:gelu", "no_such_package:x"})
    assert Parts("activation", {}).find("flax.linen:gelu") is nn.gelu
    with pytest.raises(UserError, match="cannot import no_such_package"):
        load_code("no_such_package:x")


def test_what_names_code():
    yes = ["a.py:b", "/x y/ü.py:b", "../a.py:B2", "pkg.mod:f", "mod:f"]
    no = [
        "fast",
        "6:3,4 5:2,5",
        "5:2,6:fast",
        "a.py",
        "a.py:",
        "a.py:1b",
        ":b",
        "",
        5,
        None,
        squared,
    ]
    assert all(map(is_code, yes))
    assert not any(map(is_code, no))
    settings = {"fusion": "a.py:b", "width": 5, "activation": "swish"}
    assert list(code_names(settings)) == [("fusion", "a.py:b")]
