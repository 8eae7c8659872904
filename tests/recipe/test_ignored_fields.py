"""Fields that no part reads are said, and no others."""

import pytest

from bifpn_jax.named_parts import trust_all
from bifpn_jax.recipe import base, by_name
from bifpn_jax.recipe.ignored_fields import ignored_fields

CODE = """
import flax.linen as nn


class Backbone(nn.Module):
    norm: object
    survival_prob: float = 1.0


class Plain(nn.Module):
    width: int = 8


class Norm(nn.Module):
    epsilon: float = 1e-3


def box(codes, targets, anchors):
    return 0.0


def classes(logits, targets, *, delta=0.1):
    return logits


def lion(decay, momentum):
    return None


def decay(step, *, peak):
    return peak
"""


@pytest.fixture
def said(tmp_path):
    """The line about a config in which fields are set; `my:` is the file of one's own."""
    (tmp_path / "my.py").write_text(CODE)

    def line(fields, recipe="d0"):
        config = by_name.get_config(recipe)
        config.update_from_flattened_dict(
            {
                name: value.replace("my:", f"{tmp_path}/my.py:")
                if isinstance(value, str)
                else value
                for name, value in fields.items()
            }
        )
        trust_all(config)
        return ignored_fields(config).replace(f"{tmp_path}/my.py:", "my:")

    return line


SAID = "not read by any of the chosen parts: "


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"model.backbone": "my:Backbone", "model.survival_prob": 0.5}, ""),
        ({"model.backbone": "my:Backbone", "model.expanded_features": False}, ""),
        (
            {"model.backbone": "my:Backbone", "model.expanded_features": True},
            "config.model.expanded_features=True (of model.backbone=my:Backbone)",
        ),
        (
            {
                "model.norm": "my:Norm",
                "model.batch_norm_momentum": 0.9,
                "model.batch_norm_group": 1,
            },
            "config.model.batch_norm_momentum=0.9 (of model.norm=my:Norm), "
            "config.model.batch_norm_group=1 (of model.norm=my:Norm)",
        ),
        ({"model.norm": "my:Norm", "model.backbone_batch_norm_epsilon": 1e-5}, ""),
        (
            {"model.backbone": "my:Plain", "model.backbone_batch_norm_epsilon": 1e-5},
            "config.model.backbone_batch_norm_epsilon=1e-05 (of model.backbone=my:Plain)",
        ),
        (
            {"model.feature_network": "my:Plain", "model.network_repeats": 9},
            "config.model.network_repeats=9 (of model.feature_network=my:Plain)",
        ),
        ({"model.feature_network": "panet", "model.network_repeats": 9}, ""),
        (
            {"loss.box_loss": "my:box", "loss.delta": 0.5},
            "config.loss.delta=0.5 (of loss.class_loss=focal or loss.box_loss=my:box)",
        ),
        ({"loss.box_loss": "my:box", "loss.class_loss": "my:classes", "loss.delta": 0.5}, ""),
        (
            {"optimizer.name": "my:lion", "optimizer.clip_norm": 1.0, "optimizer.momentum": 0.8},
            "config.optimizer.clip_norm=1.0 (of optimizer.name=my:lion)",
        ),
        (
            {"schedule.decay": "my:decay", "schedule.offset_cosine": True},
            "config.schedule.offset_cosine=True (of schedule.decay=my:decay)",
        ),
        (
            {"schedule.decay": "step", "schedule.offset_cosine": True},
            "config.schedule.offset_cosine=True (of schedule.decay=step)",
        ),
        ({name: f"my:{part}" for name, part in (("loss.box_loss", "box"),)}, ""),
    ],
)
def test_what_is_set_and_not_read(fields, line, said):
    assert said(fields) == (SAID + line if line else "")


@pytest.mark.parametrize("recipe", by_name.RECIPES)
def test_no_recipe_sets_what_is_not_read(recipe):
    assert ignored_fields(by_name.get_config(recipe)) == ""


def test_what_the_model_itself_has_is_not_said(said):
    # D6's fusion and D1's stochastic depth are of the released models.
    assert said({"model.feature_network": "my:Plain"}, "d6") == ""
    assert said({"model.backbone": "my:Plain"}, "d1") == ""
    assert base.get_config("d1").model.survival_prob != base.get_config("d0").model.survival_prob
