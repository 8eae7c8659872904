"""An evaluation does not depend on how an annotation file numbers and orders its categories."""

import numpy as np
import pytest

from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.data.records import Record, to_coco
from bifpn_jax.data.sources.relabelling import Relabelled, match_classes, result_ids
from bifpn_jax.evaluation.evaluator import evaluate
from bifpn_jax.postprocessing import Detections

NAMES = ("cat", "dog", "traffic light", "cow", "hen")
MODEL = LabelMap((1, 2, 3, 4, 5), NAMES)
IMAGES, OBJECTS, FOUND = 12, 6, 9


class Dataset:
    """Random objects; what they are does not depend on the label map, only their labels do."""

    name, left_out = "val.json", ()

    def __init__(self, label_map, rename=lambda name: name, used=NAMES):
        self.label_map = label_map
        rng = np.random.default_rng(7)
        self.records = []
        for i in range(IMAGES):
            what = rng.integers(0, len(NAMES), OBJECTS)
            corner, sides = rng.uniform(0, 300, (OBJECTS, 2)), rng.uniform(10, 150, (OBJECTS, 2))
            crowd = rng.random(OBJECTS) < 0.1
            kept = np.isin(np.array(NAMES)[what], used)
            labels = [label_map.names.index(rename(NAMES[k])) for k in what[kept]]
            self.records.append(
                Record(
                    image_id=100 + i,
                    encoded=b"",
                    where=f"{i}.jpg",
                    boxes=np.concatenate([corner, corner + sides], 1).astype(np.float32)[kept],
                    labels=np.array(labels, np.int32),
                    is_crowd=crowd[kept],
                    area=sides.prod(axis=1).astype(np.float32)[kept],
                    original_hw=(500, 500),
                )
            )

    def __len__(self):
        return IMAGES

    def __getitem__(self, index):
        return self.records[index]

    def box_counts(self):
        return None

    def ground_truth(self):
        return to_coco(self.records, self.label_map)

    def summary(self):
        return self.name


def predict(batch):
    """Detections of a model with the labels of MODEL: near the objects, and some of any class."""
    boxes, scores, labels = [], [], []
    reference = Dataset(MODEL)
    for image_id in batch["image_id"].tolist():
        rng = np.random.default_rng(image_id)
        record = reference[image_id - 100]
        chosen = rng.integers(0, OBJECTS, FOUND)
        boxes.append(record.boxes[chosen] + rng.normal(0, 4, (FOUND, 4)).astype(np.float32))
        scores.append(rng.random(FOUND).astype(np.float32))
        wrong = rng.random(FOUND) < 0.3
        labels.append(np.where(wrong, rng.integers(0, len(NAMES), FOUND), record.labels[chosen]))
    return Detections(np.stack(boxes), np.stack(scores), np.stack(labels).astype(np.int32))


def run(source):
    batches = [{"image_id": np.arange(100, 112), "mask": np.ones(IMAGES, bool)}]
    return evaluate(predict, source, batches, label_map=result_ids(source))


@pytest.fixture(scope="module")
def expected():
    metrics, detections = run(Dataset(MODEL))
    assert 0.05 < metrics.summary["AP"] < 0.95
    assert len(set(metrics.per_class.values())) == len(NAMES)
    return metrics, detections


def named(detections, label_map, rename=lambda name: name):
    names = dict(zip(label_map.category_ids, map(rename, label_map.names), strict=True))
    return [{**entry, "category_id": names[entry["category_id"]]} for entry in detections]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("how", [Relabelled, lambda s, m: match_classes(Dataset(m), s)])
def test_any_numbering_gives_the_same_numbers(expected, seed, how):
    rng = np.random.default_rng(seed)
    extra = [f"extra {i}" for i in range(rng.integers(0, 4))]
    names = rng.permutation([*NAMES, *extra]).tolist()
    ids = rng.choice(8 if seed % 2 else 1000, len(names), replace=False).tolist()
    theirs = LabelMap(tuple(ids), tuple(names))
    source = how(Dataset(theirs), MODEL)
    metrics, detections = run(source)
    assert metrics.summary == pytest.approx(expected[0].summary, abs=1e-12, nan_ok=True)
    assert {name: metrics.per_class[name] for name in NAMES} == pytest.approx(
        expected[0].per_class, abs=1e-12
    )
    assert all(np.isnan(metrics.per_class[name]) for name in extra)
    assert {entry["category_id"] for entry in detections} <= set(ids)
    assert named(detections, theirs) == named(expected[1], MODEL)
    # The records that training and evaluation read have the labels of the model.
    for record, ours in zip(map(source.__getitem__, range(IMAGES)), Dataset(MODEL), strict=True):
        assert record.labels.tolist() == ours.labels.tolist()


def test_another_spelling_gives_the_same_numbers(expected):
    def spelled(name):
        return name.upper().replace(" ", "_")

    theirs = LabelMap((9, 3, 5, 1, 2), tuple(map(spelled, NAMES[::-1])))
    source = Relabelled(Dataset(theirs, spelled), MODEL)
    metrics, detections = run(source)
    assert metrics.summary == pytest.approx(expected[0].summary, abs=1e-12, nan_ok=True)
    assert list(metrics.per_class) == ["DOG", "CAT", "COW", "TRAFFIC_LIGHT", "HEN"]
    assert named(detections, theirs) == named(expected[1], MODEL, spelled)
    assert "'TRAFFIC_LIGHT' for 'traffic light'" in source.summary()


def test_classes_that_the_file_does_not_list_are_in_no_result(expected):
    used = ("cow", "cat")
    theirs = LabelMap((1, 2), used)  # where the model has cat and dog
    metrics, detections = run(Relabelled(Dataset(theirs, used=used), MODEL))
    for name in used:
        assert metrics.per_class[name] == pytest.approx(expected[0].per_class[name], abs=1e-12)
    wanted = [entry for entry in named(expected[1], MODEL) if entry["category_id"] in used]
    assert named(detections, theirs) == wanted
    assert metrics.num_detections == len(wanted) < len(expected[1])


def test_a_model_with_an_output_for_every_id(expected):
    outputs = LabelMap((1, 2, 4, 5, 7), NAMES).with_gaps(9)

    def predict_wide(batch):
        found = predict(batch)
        return found._replace(labels=outputs.to_labels([1, 2, 4, 5, 7])[found.labels])

    source = Relabelled(Dataset(MODEL), outputs)
    batches = [{"image_id": np.arange(100, 112), "mask": np.ones(IMAGES, bool)}]
    metrics, detections = evaluate(predict_wide, source, batches, label_map=result_ids(source))
    assert metrics.to_json() == expected[0].to_json()
    assert detections == expected[1]
