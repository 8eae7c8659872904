"""A workdir that an earlier version wrote, interrupted at step 9 of 12, is used as if it were new.

`earlier_version.tar.xz` is the workdir of a run on drawn shapes (a frozen nano backbone, 64 pixels)
and in `expected.json` what that version did with it: the first detections in one image, and what it
logged when it went on, on one device.
"""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from bifpn_jax.data.sources.shapes import DrawnShapes
from bifpn_jax.recipe.fields import with_added_fields
from bifpn_jax.trained import load_detector


@pytest.fixture
def workdir(tmp_path):
    with tarfile.open(Path(__file__).parent / "earlier_version.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "earlier_version"


def test_its_detector(workdir):
    detector = load_detector(workdir, score_threshold=0.0)
    assert detector.class_names == DrawnShapes(1).label_map.names
    assert detector.model.image_hw == (64, 64)
    found = detector(np.arange(48 * 64 * 3).reshape(48, 64, 3).astype(np.uint8))
    expected = json.loads((workdir / "expected.json").read_text())["detections"]
    np.testing.assert_allclose(found.scores[:5], expected["scores"], rtol=1e-6)
    np.testing.assert_allclose(found.boxes[:5], expected["boxes"], atol=1e-3)


def test_its_training_goes_on(workdir, run_training):
    config = with_added_fields(json.loads((workdir / "config.json").read_text()))
    run_training(config, workdir)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for expected in json.loads((workdir / "expected.json").read_text())["metrics"]:
        kind = "train/loss" if "train/loss" in expected else "eval/AP"
        (line,) = (x for x in lines if x["step"] == expected["step"] and kind in x)
        # The sums have another order on eight devices, and without optimisation.
        assert {name: line[name] for name in expected} == pytest.approx(expected, rel=1e-4)
