import io
import math

import pytest

from bifpn_jax.runs.progress import ProgressLine, Speed, Timer, format_seconds


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_speed_and_eta_without_the_pauses():
    clock = Clock()
    timer = Timer(batch_size=8, total_steps=100, clock=clock)
    clock.now += 30  # The first step compiles.
    timer.start(1)
    clock.now += 10
    with timer.pause():
        clock.now += 500
    clock.now += 10
    speed = timer.measure(11)
    assert speed.images_per_second == pytest.approx(4.0)
    assert speed.seconds_per_step == pytest.approx(2.0)
    assert speed.eta_seconds == pytest.approx(89 * 2.0)
    assert speed.training_seconds == pytest.approx(50.0)

    clock.now += 5
    speed = timer.measure(21)
    assert speed.images_per_second == pytest.approx(16.0)
    assert speed.eta_seconds == pytest.approx(79 * 25 / 20)
    assert timer.measure(100).eta_seconds == 0.0


def test_a_pause_ends_with_an_exception_too():
    clock = Clock()
    timer = Timer(batch_size=1, total_steps=10, clock=clock)

    def interrupted():
        with timer.pause():
            clock.now += 7
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    clock.now += 2
    assert timer.seconds == pytest.approx(2.0)


def test_the_state_within_a_pause_is_that_before_it():
    clock = Clock()
    timer = Timer(batch_size=1, total_steps=10, clock=clock)
    clock.now += 5
    with timer.pause():
        clock.now += 100
        assert timer.state() == {"seconds": pytest.approx(5.0)}
    clock.now += 1
    assert timer.seconds == pytest.approx(6.0)


def test_training_time_goes_on_after_a_resume():
    clock = Clock()
    timer = Timer(batch_size=8, total_steps=100, clock=clock)
    clock.now += 60
    state = timer.state()
    clock.now += 10000
    resumed = Timer(batch_size=8, total_steps=100, clock=clock, **state)
    resumed.start(50)
    clock.now += 20
    speed = resumed.measure(60)
    assert speed.training_seconds == pytest.approx(80.0)
    assert speed.eta_seconds == pytest.approx(80.0)


def test_without_a_new_step_the_speed_is_not_a_number():
    clock = Clock()
    timer = Timer(batch_size=8, total_steps=100, clock=clock)
    assert math.isnan(timer.measure(0).images_per_second)
    timer.start(0)
    speed = timer.measure(0)
    assert math.isnan(speed.images_per_second)
    assert math.isnan(speed.eta_seconds)


SPEED = Speed(images_per_second=12.34, seconds_per_step=0.5, eta_seconds=3723, training_seconds=9)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_plain_lines_where_there_is_no_terminal():
    file = io.StringIO()
    line = ProgressLine(100, file=file)
    line.update(10, 1.23456, SPEED)
    line.write("evaluated")
    line.close()
    assert file.getvalue() == ("step 10/100  loss 1.2346  12.3 images/s  ETA 1:02:03\nevaluated\n")


def test_a_bar_on_a_terminal():
    file = Terminal()
    line = ProgressLine(100, file=file)
    line.update(25, 1.5, SPEED)
    line.write("evaluated")
    line.update(50, 0.5, SPEED)
    line.close()
    text = file.getvalue()
    assert " 25% |" in text
    assert "evaluated\n" in text
    assert "step 50/100  loss 0.5000  12.3 images/s  ETA 1:02:03" in text


@pytest.mark.parametrize("file", [io.StringIO(), Terminal()])
def test_a_disabled_line_shows_nothing(file):
    line = ProgressLine(100, file=file, enabled=False)
    line.update(1, 1.0, SPEED)
    line.write("evaluated")
    line.close()
    assert file.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0:00:00"), (3723, "1:02:03"), (172801, "2 days, 0:00:01"), (math.nan, "?")],
)
def test_seconds_as_text(seconds, text):
    assert format_seconds(seconds) == text
