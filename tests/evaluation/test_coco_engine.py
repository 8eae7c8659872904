"""The fast engine of COCO's evaluation against the reference, on random small problems."""

import sys

import numpy as np
import pytest

from bifpn_jax.evaluation.coco_engine import (
    default_engine,
    match_and_accumulate,
    pycocotools_engine,
)


def problem(seed):
    """Images, categories, objects, detections: crowds, tied scores, detections at an object."""
    rng = np.random.default_rng(seed)
    images = [{"id": i + 1} for i in range(rng.integers(1, 6))]
    categories = [{"id": k + 1} for k in range(rng.integers(1, 4))]

    def entry(number, box):
        return {
            "id": number + 1,
            "image_id": int(rng.integers(1, len(images) + 1)),
            "category_id": int(rng.integers(1, len(categories) + 1)),
            "bbox": [float(x) for x in box],
            "area": float(box[2] * box[3] * rng.choice([1, 0.5])),
            "iscrowd": int(rng.random() < 0.15),
        }

    def box():
        sides = rng.integers(1, rng.choice([4, 40, 150]), 2)
        return np.concatenate([rng.integers(0, 60, 2), sides])

    objects = [entry(i, box()) for i in range(rng.integers(0, 30))]
    found = []
    for i in range(rng.integers(0, 60)):
        guess = entry(i, box())
        if objects and rng.random() < 0.5:
            hit = objects[rng.integers(len(objects))]
            moved = np.maximum(hit["bbox"] + rng.normal(0, 1.5, 4) * (rng.random() < 0.5), 0.5)
            guess |= {key: hit[key] for key in ("image_id", "category_id")}
            guess |= {"bbox": moved.tolist(), "area": float(moved[2] * moved[3])}
        score = rng.choice([0.1, 0.2, 0.5, 0.9]) if rng.random() < 0.7 else rng.random()
        found.append(guess | {"iscrowd": 0, "score": float(score)})
    limit = int(rng.choice([1, 5, 10, 100]))
    some = [image["id"] for image in images if rng.random() < 0.8] or [1]
    return (images, categories, objects, found), {"image_ids": some, "max_detections": limit}


@pytest.mark.parametrize("seed", range(60))
def test_both_engines_agree(seed):
    arguments, options = problem(seed)
    fast = match_and_accumulate(*arguments, **options)
    reference = match_and_accumulate(*arguments, **options, engine=pycocotools_engine())
    for ours, theirs in zip(fast, reference, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-15)


def test_the_problems_are_not_trivial():
    precision = [
        match_and_accumulate(*arguments, **options)[0].max()
        for arguments, options in map(problem, range(60))
    ]
    assert sum(value > 0 for value in precision) > 40


def test_the_fast_engine_is_the_default(monkeypatch):
    assert default_engine().evaluation.__module__.startswith("faster_coco_eval.")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert default_engine() == pycocotools_engine()
    assert "pycocotools" in sys.modules
