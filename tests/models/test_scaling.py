import dataclasses

import pytest

from bifpn_jax import anchors
from bifpn_jax.errors import UserError
from bifpn_jax.models.backbones.efficientnet import VARIANTS
from bifpn_jax.models.detector import EfficientDet
from bifpn_jax.models.scaling import (
    MODELS,
    compound_scaling,
    deviations,
    scaled_settings,
)

# phi, backbone, resolution, width, BiFPN cells, head repeats, max level, anchor scale, fusion
RELEASED = {
    "d0": (0, "b0", 512, 64, 3, 3, 7, 4, "fast"),
    "d1": (1, "b1", 640, 88, 4, 3, 7, 4, "fast"),
    "d2": (2, "b2", 768, 112, 5, 3, 7, 4, "fast"),
    "d3": (3, "b3", 896, 160, 6, 4, 7, 4, "fast"),
    "d4": (4, "b4", 1024, 224, 7, 4, 7, 4, "fast"),
    "d5": (5, "b5", 1280, 288, 7, 4, 7, 4, "fast"),
    "d6": (6, "b6", 1280, 384, 8, 5, 7, 4, "sum"),
    "d7": (7, "b6", 1536, 384, 8, 5, 7, 5, "sum"),
    "d7x": (7, "b7", 1536, 384, 8, 5, 8, 4, "sum"),
    "lite0": (None, "lite0", 320, 64, 3, 3, 7, 3, "sum"),
    "lite1": (None, "lite1", 384, 88, 4, 3, 7, 3, "sum"),
    "lite2": (None, "lite2", 448, 112, 5, 3, 7, 3, "sum"),
    "lite3": (None, "lite3", 512, 160, 6, 4, 7, 4, "sum"),
    "lite3x": (None, "lite3", 640, 200, 6, 4, 7, 3, "sum"),
    "lite4": (None, "lite4", 640, 224, 7, 4, 7, 4, "sum"),
}


def test_all_released_models_are_there():
    assert list(MODELS) == list(RELEASED)


@pytest.mark.parametrize("name", RELEASED)
def test_models_have_the_released_settings(name):
    model = MODELS[name]
    assert RELEASED[name] == (
        model.phi,
        model.backbone,
        model.image_size,
        model.width,
        model.network_repeats,
        model.head_repeats,
        model.max_level,
        model.anchor_scale,
        model.fusion,
    )
    lite = name.startswith("lite")
    assert VARIANTS[model.backbone].lite == lite
    assert model.activation == ("relu6" if lite else "swish")
    assert model.mean_rgb == pytest.approx((127,) * 3 if lite else (123.675, 116.28, 103.53))
    assert model.std_rgb == pytest.approx((128,) * 3 if lite else (58.395, 57.12, 57.375))
    # Stochastic depth was off for the one detector whose backbone is B0.
    assert model.survival_prob == (1.0 if name == "d0" else 0.8)


def test_the_settings_are_attributes_of_the_detector():
    attributes = {field.name for field in dataclasses.fields(EfficientDet)}
    assert set(MODELS["d0"]._fields) - {"phi", "image_size"} <= attributes


def test_the_published_aspect_ratios_are_the_anchors_default():
    assert anchors.ASPECT_RATIOS == ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))


@pytest.mark.parametrize(
    ("phi", "width", "network", "head", "size"),
    [
        (0, 64, 3, 3, 512),
        (1, 86.4, 4, 3, 640),
        (2, 116.6, 5, 3, 768),
        (3, 157.5, 6, 4, 896),
        (4, 212.6, 7, 4, 1024),
        (5, 287.0, 8, 4, 1152),
        (6, 387.4, 9, 5, 1280),
        (7, 523.0, 10, 5, 1408),
    ],
)
def test_compound_scaling_follows_the_formulas(phi, width, network, head, size):
    rule = compound_scaling(phi)
    assert rule.width == pytest.approx(width, abs=0.06)
    assert rule[1:] == (network, head, size)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("d0", set()),
        ("d1", {"width"}),
        ("d2", {"width"}),
        ("d3", {"width"}),
        ("d4", {"width"}),
        ("d5", {"width", "network_repeats", "image_size"}),
        ("d6", {"width", "network_repeats"}),
        ("d7", {"width", "network_repeats", "image_size"}),
        ("d7x", {"width", "network_repeats", "image_size"}),
        ("lite0", set()),
    ],
)
def test_deviations_are_where_the_released_model_leaves_the_rule(name, fields):
    assert set(deviations(name)) == fields


def test_deviations_say_both_values():
    assert deviations("d7") == {
        "width": "384 (rule: 523.018)",
        "network_repeats": "8 (rule: 10)",
        "image_size": "1536 (rule: 1408)",
    }


@pytest.mark.parametrize(
    ("phi", "backbone", "side", "width", "network", "head"),
    [
        (0, "b0", 512, 64, 3, 3),
        (1, "b1", 640, 88, 4, 3),
        (1.5, "b2", 704, 104, 4, 3),
        (3, "b3", 896, 160, 6, 4),
        (7, "b7", 1408, 520, 10, 5),
        (-0.4, "b0", 448, 56, 2, 2),
        (-3, "nano", 128, 24, 1, 2),
        (-8, "nano", 64, 8, 1, 1),
    ],
)
def test_any_phi_gives_settings(phi, backbone, side, width, network, head):
    assert scaled_settings(phi) == {
        "backbone": backbone,
        "image_hw": (side, side),
        "width": width,
        "network_repeats": network,
        "head_repeats": head,
    }


def test_a_factor_may_have_a_phi_of_its_own():
    base = scaled_settings(-2)
    assert scaled_settings(-2, width=1) == {**base, "width": 88}
    assert scaled_settings(-2, image_size=0, backbone=2) == {
        **base,
        "image_hw": (512, 512),
        "backbone": "b2",
    }


@pytest.mark.parametrize(
    ("phi", "factors", "message"),
    [
        (9, {}, "phi=9 is out of range; phi goes from -8 to 8"),
        (0, {"width": -9}, "width=-9 is out of range"),
        (0, {"depth": 1}, "there is no factor 'depth'; use .*image_size.*"),
        (float("nan"), {}, "phi=nan is out of range"),
    ],
)
def test_factors_that_there_are_not(phi, factors, message):
    with pytest.raises(UserError, match=message):
        scaled_settings(phi, **factors)
