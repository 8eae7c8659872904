import io
import json
import math

import pytest

from experiments.sweeps.progress import GridLine, log_size, read_status, remaining_seconds

STEPS = {"steps": 200, "epochs": 300.0}
EPOCHS = {"steps": 0, "epochs": 4.0}


def write(folder, *lines, end=""):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(text + end)


def test_what_a_run_has_logged(tmp_path):
    assert read_status(tmp_path, STEPS) is None
    write(tmp_path)
    assert read_status(tmp_path, STEPS) is None
    write(tmp_path, {"step": 50, "train/loss": 0.61234, "train/epoch": 1.0})
    assert read_status(tmp_path, STEPS) == (50, 0.25, "step 50/200  loss 0.6123")
    assert read_status(tmp_path, EPOCHS) == (50, 0.25, "step 50 (25%)  loss 0.6123")
    write(tmp_path, {"step": 50, "eval/AP": 0.125}, end='{"step": 60, "tra')
    assert read_status(tmp_path, STEPS).text == "step 50/200  loss 0.6123  AP 0.1250"


def test_lines_of_before_a_resume_are_left_out(tmp_path):
    write(tmp_path, {"step": 50, "train/loss": 0.6, "train/epoch": 1.0})
    start = log_size(tmp_path)
    assert read_status(tmp_path, STEPS, start=start) is None
    write(tmp_path, {"step": 60, "train/loss": None, "train/epoch": 1.2})
    assert read_status(tmp_path, STEPS, start=start) == (60, 0.3, "step 60/200")


def test_only_the_end_of_a_long_log_is_read(tmp_path):
    for step in range(1, 2001):
        write(tmp_path, {"step": step, "train/loss": 1.0, "train/epoch": step / 1000})
    assert log_size(tmp_path) > 100_000
    assert read_status(tmp_path, EPOCHS).step == 2000
    assert read_status(tmp_path, EPOCHS).fraction == pytest.approx(0.5)
    assert read_status(tmp_path, STEPS).fraction == 1.0  # a run that became shorter


def test_time_to_the_end():
    def eta(finished, waiting, **state):
        return remaining_seconds(finished, waiting, "a", **{"first": 0.0, "now": 0.0, **state})

    # Of its own row, or else of all: (10 + 20 + 60) / 3 = 30.
    finished = {"a": [10.0, 20.0], "b": [60.0]}
    assert eta(finished, ["a", "b", "c"], elapsed=0.0) == pytest.approx(15 + 15 + 60 + 30)
    assert eta(finished, ["b"], elapsed=5.0, now=0.4) == pytest.approx(9 + 60)
    assert eta(finished, [], elapsed=5.0, now=1.0) == 0.0
    # By the speed of the first run: half of it in 20 s.
    assert eta({}, ["b", "c"], elapsed=20.0, first=0.25, now=0.75) == pytest.approx(10 + 80)
    assert math.isnan(eta({}, ["b"], elapsed=20.0))
    assert math.isnan(eta({}, [], elapsed=0.0))


def test_plain_lines_once_a_minute_where_there_is_no_terminal():
    now = [0.0]
    file = io.StringIO()
    line = GridLine(12, file=file, clock=lambda: now[0])
    line.update(3, 0, "fast seed 1: starting", math.nan)
    now[0] = 59.0
    line.update(3, 0, "fast seed 1: step 2/9", 60.0)
    line.write("fast seed 1: AP 0.5000")
    now[0] = 61.0
    line.update(4, 1, "wide seed 1: step 7/9  loss 0.5", 3723.0)
    line.close()
    assert file.getvalue() == (
        "3/12 runs  fast seed 1: starting  ETA ?\n"
        "fast seed 1: AP 0.5000\n"
        "4/12 runs, 1 failed  wide seed 1: step 7/9  loss 0.5  ETA 1:02:03\n"
    )


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal():
    file = Terminal()
    line = GridLine(4, file=file)
    line.update(1, 0, "fast seed 1: step 1/9", 3.0)
    line.write("fast seed 1: AP 0.5000")
    line.update(2, 0, "wide seed 1: starting", 2.0)
    line.close()
    text = file.getvalue()
    assert " 25% |" in text
    assert " 50% |" in text
    assert "fast seed 1: AP 0.5000\n" in text
    assert "2/4 runs  wide seed 1: starting  ETA 0:00:02" in text
