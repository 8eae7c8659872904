"""Steps whose loss or gradient is not finite: an error, or counted, with the images' ids."""

import json

import numpy as np
import pytest

from bifpn_jax.errors import UserError
from bifpn_jax.runs.step_metrics import MAX_SKIPPED_IN_A_ROW, StepMetrics

IDS = np.array([7, 3])


def values(loss, rate=0.1):
    return {"loss": np.float32(loss), "gradient_norm": np.float32(1), "learning_rate": rate}


def fill(steps, losses):
    for step, loss in enumerate(losses, 1):
        steps.add(step, values(loss, rate=step / 10), IDS)
    steps.fetch()


def test_means_are_those_since_the_last_log():
    steps = StepMetrics("error", print)
    assert steps.take_means() == {}
    fill(steps, [1, 2, 6])
    assert steps.take_means() == {"loss": 3.0, "gradient_norm": 1.0, "learning_rate": 0.3}
    fill(steps, [5])
    assert steps.take_means()["loss"] == 5.0
    assert steps.take_means() == {}


@pytest.mark.parametrize("field", ["loss", "gradient_norm"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_error_names_step_rate_and_images(field, bad):
    steps = StepMetrics("error", pytest.fail)
    steps.add(1, values(1), IDS)
    steps.add(2, values(1) | {field: np.float32(bad)}, IDS)
    with pytest.raises(UserError, match=r"^step 2: loss .* rate 0\.1, on the .* ids 3, 7\. ") as e:
        steps.add(3, values(1), IDS)
    assert "by config.train.nonfinite=skip" in str(e.value)
    assert "\n" not in str(e.value)


def test_a_skipped_step_is_said_and_counted_and_in_no_mean():
    said = []
    steps = StepMetrics("skip", said.append)
    fill(steps, [1, np.nan, 3])
    assert said == [
        "step 2: loss nan, gradient norm 1.0 at learning rate 0.2, on the images with ids 3, 7: "
        "this step changes nothing"
    ]
    assert steps.skipped_steps == 1
    assert steps.take_means()["loss"] == 2.0


def test_a_run_that_has_diverged_ends():
    steps = StepMetrics("skip", lambda _: None)
    fill(steps, [np.nan] * MAX_SKIPPED_IN_A_ROW + [1.0] + [np.nan] * MAX_SKIPPED_IN_A_ROW)
    assert steps.skipped_steps == 2 * MAX_SKIPPED_IN_A_ROW
    steps.add(99, values(np.nan), IDS)
    with pytest.raises(
        UserError, match=r"^step 99: .*; the 10 steps before were like it, .* lower"
    ):
        steps.fetch()


def test_a_run_that_goes_on_counts_on():
    said = []
    steps = StepMetrics("skip", said.append)
    fill(steps, [1, np.nan, np.nan])
    state = json.loads(json.dumps(steps.state()))
    again = StepMetrics("skip", said.append, **state)
    assert again.state() == state
    fill(again, [np.nan] * (MAX_SKIPPED_IN_A_ROW - 2))
    assert again.skipped_steps == MAX_SKIPPED_IN_A_ROW
    assert again.take_means()["loss"] == 1.0
    with pytest.raises(UserError, match="has diverged"):
        fill(again, [np.nan])
