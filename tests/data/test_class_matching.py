import numpy as np
import pytest

from bifpn_jax.data.class_matching import match_names, some
from bifpn_jax.data.coco.coco_categories import COCO
from bifpn_jax.data.label_map import LabelMap


def numbered(*names, first=1):
    return LabelMap(tuple(range(first, first + len(names))), names)


def labels(data, model):
    return match_names(data, model).labels.tolist()


@pytest.mark.parametrize("seed", range(20))
def test_any_ids_and_any_order(seed):
    rng = np.random.default_rng(seed)
    names = [f"class {i}" for i in range(12)]
    ours = rng.permutation(names)[: rng.integers(1, 13)]
    theirs = rng.permutation(names)[: rng.integers(1, 13)]

    def with_any_ids(chosen):
        ids = rng.choice(1000, len(chosen), replace=False)
        return LabelMap(tuple(ids.tolist()), tuple(chosen.tolist()))

    data, model = with_any_ids(theirs), with_any_ids(ours)
    match = match_names(data, model)
    found = [model.names[k] if k >= 0 else None for k in match.labels]
    assert found == [name if name in ours else None for name in theirs]
    assert not match.by_id
    for label, category_id in enumerate(match.result_ids()):
        wanted = dict(zip(data.names, data.category_ids, strict=True)).get(model.names[label])
        assert category_id == wanted
    assert {model.names[k] for k in match.missing} == set(ours) - set(theirs)
    assert {data.names[k] for k in match.unknown} == set(theirs) - set(ours)


@pytest.mark.parametrize(
    "name", ["traffic_light", "Traffic Light", "trafficlight", " traffic  LIGHT"]
)
def test_spelling(name):
    match = match_names(numbered(name, "car"), numbered("car", "traffic light"))
    assert match.labels.tolist() == [1, 0]
    assert f"{name!r} for 'traffic light'" in match.note("the model")


def test_the_exact_name_goes_first():
    assert labels(numbered("Cat", "cat"), numbered("cat", "Cat")) == [1, 0]
    assert labels(numbered("cat"), numbered("Cat", "cat")) == [1]


def test_spellings_that_leave_doubt_are_not_matched():
    assert labels(numbered("CAT"), numbered("Cat", "cat")) == [-1]
    assert labels(numbered("CAT", "cat"), numbered("cat")) == [-1, 0]
    assert labels(numbered("CAT", "Cat"), numbered("cat")) == [-1, -1]
    assert labels(numbered("hot-dog", "dogs"), numbered("hot dog", "dog")) == [-1, -1]


def test_a_side_with_numbers_for_names_is_matched_by_id():
    pets = LabelMap((3, 7), ("cat", "dog"))
    for other in (LabelMap((7, 3), ("7", "3")), LabelMap((3, 7), ("3", "7")).with_gaps(9)):
        there, back = match_names(pets, other), match_names(other, pets)
        assert there.by_id
        assert back.by_id
        assert [other.category_ids[k] for k in there.labels] == [3, 7]
        assert "by id" in there.note("the model")
    assert labels(LabelMap((3, 8), ("cat", "dog")), LabelMap((3, 7), ("3", "7"))) == [0, -1]


def test_digits_are_names():
    zero, one = (numbered(*"0123456789", first=first) for first in (0, 1))
    assert labels(zero, one) == labels(one, zero) == list(range(10))
    assert not match_names(zero, one).by_id
    # Their ids are not what they are called, so that ids say nothing about names.
    assert labels(numbered("cat", "dog"), one) == [-1, -1]


def test_outputs_without_a_category_are_not_missed():
    match = match_names(COCO, COCO.with_gaps(90))
    assert match.labels.tolist() == [i - 1 for i in COCO.category_ids]
    assert (match.missing, match.unknown, match.note("the model")) == ([], [], "")
    assert [i for i in match.result_ids() if i is not None] == list(COCO.category_ids)


def test_some():
    assert some([]) == ""
    assert some(["a", "b"]) == "a, b"
    assert some(list("abcdefg")) == "a, b, c, d, e, … 7 in all"
