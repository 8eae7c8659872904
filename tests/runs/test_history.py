import json

import pytest

from bifpn_jax.recipe import base, building
from bifpn_jax.runs.history import schedule_change, with_length_of

IMAGES = 96


def config(epochs=3.0, **schedule):
    made = base.get_config("d0")
    made.train.update({"batch_size": 8, "epochs": epochs})
    made.schedule.update({"warmup_epochs": 0.5, "offset_cosine": True, **schedule})
    return made


def saved(made, **more):
    return {"config": json.loads(made.to_json()), **more}


def change(new, old, step, images=IMAGES):
    return schedule_change(new, building.run_length(new, images), old, images, step)


def test_a_longer_schedule_says_what_it_does_to_the_learning_rate():
    said = change(config(6.0), saved(config()), 36)
    assert said.startswith(
        "learning rate at step 36: 2.7e-05 → 5.7e-03 because train.epochs changed from 3.0 to 6.0 "
        "(36 steps before, now 72)"
    )
    assert "with config.init_from" in said
    assert "\n" not in said


def test_it_is_said_of_an_unfinished_run_too():
    old, new = config(), config(6.0)
    before, now = (building.run_length(c, IMAGES) for c in (old, new))
    said = change(new, saved(old), 24)
    rates = [float(building.schedule(c, n)(24)) for c, n in ((old, before), (new, now))]
    assert said.startswith("learning rate at step 24: {:.1e} → {:.1e} ".format(*rates))


def test_a_run_beyond_its_new_end_trains_nothing():
    said = change(config(0.75, warmup_epochs=0.1), saved(config()), 36)
    assert said == (
        "this run is at step 36, beyond the end of the new schedule, step 9, because train.epochs "
        "changed from 3.0 to 0.75 (36 steps before, now 9): nothing is trained"
    )


def test_a_shorter_schedule_that_is_still_ahead():
    assert change(config(2.5), saved(config()), 24).startswith("learning rate at step 24: ")


def test_steps_and_the_size_of_the_data_change_a_schedule_too():
    new = config()
    new.train.steps = 50
    assert "train.steps changed from 0 to 50 (36 steps before, now 50)" in change(
        new, saved(config()), 36
    )
    old = saved(config(), length=[36, 12.0])
    assert "the number of training images changed (36 steps before, now 72)" in change(
        config(), old, 36, images=192
    )


@pytest.mark.parametrize("length", [{}, {"length": [36, 12.0]}])
def test_the_same_schedule_says_nothing(length):
    assert change(config(), saved(config(), **length), 24) == ""


def test_the_length_of_the_run_that_was_trained_is_kept():
    new = json.loads(config(0.5).to_json()) | {"name": "other"}
    kept = with_length_of(new, saved(config()))
    assert kept["train"]["epochs"] == 3.0
    assert kept["name"] == "other"
    assert new["train"]["epochs"] == 0.5
