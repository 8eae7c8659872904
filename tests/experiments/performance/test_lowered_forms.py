"""Timing forms of operations against plain ones."""

from contextlib import ExitStack
from unittest import mock

import jax

from bifpn_jax.recipe import base
from experiments.paper import counts
from experiments.performance import lowered_forms, programs


def test_a_training_step_uses_every_form():
    config = base.get_config("d0")
    config.model.update({"backbone": "nano", "image_hw": (64, 64), "width": 8, "head_repeats": 1})
    config.model.network_repeats = 1
    model = counts.model_of(config, 4)
    uses = {}
    with ExitStack() as stack:
        for name, form in lowered_forms.FORMS.items():
            uses[name] = mock.Mock(side_effect=form.plain)
            stack.enter_context(
                mock.patch.dict(lowered_forms.FORMS, {name: form._replace(plain=uses[name])})
            )
            stack.enter_context(lowered_forms.plain(name))
        step, state, batch = programs.step_to_trace(config, model, 2)
        jax.eval_shape(step, state, batch)
    assert all(use.called for use in uses.values()), uses
    assert not any(
        getattr(form.module, form.name) in uses.values() for form in lowered_forms.FORMS.values()
    )


def test_the_table():
    ratios = [1.0, 1.1, 1.2, 1.3, 1.4]
    found = {"forward": {"total": ratios}, "training step": {"total": [2 * r for r in ratios]}}
    assert lowered_forms.to_markdown(found).splitlines() == [
        "| form | forward | training step |",
        "|---|---|---|",
        "| `total` | 1.20 (1.05 – 1.35) | 2.40 (2.10 – 2.70) |",
    ]
