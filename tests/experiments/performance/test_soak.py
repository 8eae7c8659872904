"""What the soak says about samples of which one knows what they show."""

import pytest

from bifpn_jax.recipe import building
from experiments.paper.table import to_markdown
from experiments.performance.soak import Sample, course, growth, soak_config, take_sample


def samples(**slopes):
    """Of 1000 steps: memory falls after the start, everything else grows by its slope per step."""
    found = []
    for step in range(0, 1001, 10):
        start = 500 if step < 150 else 0
        values = {"resident_mb": 1000.0 + start, "allocated_mb": 400.0, "files": 20, "threads": 9}
        grown = {k: v + slopes.get(k, 0) * step for k, v in values.items()}
        found.append(Sample(step / 10, step, **grown))
    return found


def test_what_stays_is_no_fault():
    assert growth(samples()) == []
    assert growth(samples(resident_mb=0.03, allocated_mb=-1)) == []


@pytest.mark.parametrize(
    ("name", "slope"),
    [("resident_mb", 0.06), ("allocated_mb", 0.03), ("files", 0.01), ("threads", 0.01)],
)
def test_what_grows_is_named(name, slope):
    (fault,) = growth(samples(**{name: slope}))
    assert fault.startswith(f"{name} grew from ")


def test_threads_that_end_again_are_no_fault():
    helped = [
        sample._replace(threads=10) if 400 <= sample.steps < 600 else sample for sample in samples()
    ]
    assert growth(helped) == []


def test_a_short_run_says_nothing():
    assert growth([]) == ["the run was too short to say anything"]
    assert growth(samples()[:1]) == ["the run was too short to say anything"]


def test_the_course_has_a_row_for_every_tenth_of_the_settled_run():
    lines = to_markdown(course(samples())).splitlines()
    rows = [line for line in lines if line.startswith("| ") and line[2].isdecimal()]
    assert len(rows) == 10
    assert rows[0] == "| 270 | 0.5 | 1000 | 400 | 20 | 9 |"
    assert rows[-1].startswith("| 1000 | 1.7 |")


def test_a_sample_is_of_this_process(tmp_path):
    before = take_sample(1.0, 5)
    held = b"x" * 2**28
    with (tmp_path / "file").open("w"):
        after = take_sample(2.0, 6)
    assert after.files == before.files + 1
    assert after.resident_mb - before.resident_mb > 200
    assert before.allocated_mb == 0 or after.allocated_mb - before.allocated_mb == pytest.approx(
        256, abs=20
    )
    assert len(held) == 2**28


@pytest.mark.parametrize("steps", [5, 25, 100, 500, 20_000])
def test_the_warm_up_fits_in_a_run_of_any_length(steps):
    config = soak_config(steps, steps // 5)
    building.schedule(config, building.run_length(config, 200))
