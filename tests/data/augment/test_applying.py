"""Augmentations by name and of one's own: found, tried out, applied, and the same every time."""

import dataclasses
from functools import partial

import numpy as np
import pytest

from bifpn_jax.data.augment.applying import AUGMENTATIONS, PUBLISHED, find_steps, split_settings
from bifpn_jax.data.augment.augmentation import Example, Placing, fault
from bifpn_jax.data.augment.flip import flip
from bifpn_jax.data.augment.scale_jitter import scale_jitter
from bifpn_jax.data.pipeline import train_batches
from bifpn_jax.data.sources.shapes import DrawnShapes
from bifpn_jax.errors import UserError
from bifpn_jax.named_parts import trust_code

CODE = """
import numpy as np

def darker(example, rng, *, by=0.5):
    factor = 1 - by * rng.random()
    return example._replace(image=(example.image * factor).astype(np.uint8))

def side_by_side(example, rng, *, more):
    other = more()
    height = max(example.image.shape[0], other.image.shape[0])
    offset = example.image.shape[1]
    image = np.zeros((height, offset + other.image.shape[1], 3), np.uint8)
    image[: example.image.shape[0], :offset] = example.image
    image[: other.image.shape[0], offset:] = other.image
    moved = other.boxes + np.array([[0, offset, 0, offset]], np.float32)
    return example._replace(
        image=image,
        boxes=np.concatenate([example.boxes, moved]),
        labels=np.concatenate([example.labels, other.labels]),
    )
"""


@pytest.fixture(scope="module")
def source():
    return DrawnShapes(10, seed=3, sides=(64, 128))


def train(source, **options):
    defaults = {"batch_size": 4, "image_hw": (96, 128), "max_boxes": 9, "seed": 0}
    return train_batches(source, **{**defaults, "num_threads": 2, **options})


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        for key in x:
            np.testing.assert_array_equal(x[key], y[key], err_msg=key)


def example(count=1):
    boxes = np.tile(np.array([[1, 2, 30, 40]], np.float32), (count, 1))
    return Example(np.full((48, 64, 3), 9, np.uint8), boxes, np.zeros(count, np.int32))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_named_augmentation_keeps_the_contract_and_owns_its_randomness(name):
    (step,) = find_steps([name])
    for count in (0, 1, 5):
        first, again = (step.function(example(count), np.random.default_rng(1)) for _ in range(2))
        assert not fault(first)
        assert first.placing == again.placing
        for a, b in zip(first[:3], again[:3], strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_published_recipe_takes_its_random_numbers_in_this_order():
    rng, expected = np.random.default_rng(5), np.random.default_rng(5)
    after = example()
    for step in find_steps(PUBLISHED, {"flip": {"probability": 0.0}}):
        after = step.function(after, rng)
    expected.random()  # whether it is mirrored, also where it never is
    scale, *across = expected.uniform(0.1, 2.0), *expected.random(2)
    assert after.placing == Placing(scale, tuple(across))
    assert rng.random() == expected.random()


@pytest.mark.parametrize(
    ("entry", "name", "settings"),
    [
        ("flip", "flip", {}),
        ("flip()", "flip", {}),
        ("flip(probability=0.25)", "flip", {"probability": 0.25}),
        ("a (1)/b.py:f(size=3, of=('x', 2))", "a (1)/b.py:f", {"size": 3, "of": ("x", 2)}),
        ("a (1)/b.py:f", "a (1)/b.py:f", {}),
    ],
)
def test_settings_in_a_recipe(entry, name, settings):
    assert split_settings(entry) == (name, settings)


def test_a_recipe_goes_before_the_fields(source):
    fields = {"flip": {"probability": 0.0}, "scale_jitter": {"scales": (1.0, 1.0)}}
    always, fit = find_steps(["flip(probability=1.0)", "scale_jitter"], fields)
    assert always.function(example(), np.random.default_rng(0)).boxes[0, 1] == 64 - 40
    assert fit.function(example(), np.random.default_rng(0)).placing.scale == 1.0


@pytest.mark.parametrize("form", ["text", "function"])
def test_one_of_ones_own_trains_the_same_whatever_the_threads_and_shards(source, tmp_path, form):
    file = tmp_path / "own.py"
    file.write_text(CODE)
    recipe = ["flip", f"{file}:darker(by=0.9)", "scale_jitter", f"{file}:side_by_side"]
    for name in ("darker", "side_by_side"):
        trust_code(f"{file}:{name}")
    if form == "function":
        steps = find_steps(recipe)
        recipe = [flip, steps[1].function, scale_jitter, steps[3].function]
    iterator = train(source, augmentations=recipe)
    first = take(iterator, 2)
    state = iterator.get_state()
    later = take(iterator, 3)
    assert any((batch["labels"] >= 0).sum() > 8 for batch in later)
    iterator.set_state(state)
    assert_same(later, take(iterator, 3))
    assert_same(first + later, take(train(source, augmentations=recipe, num_threads=7), 5))
    shards = [
        take(train(source, augmentations=recipe, shard_index=i, shard_count=2), 5) for i in (0, 1)
    ]
    for batch, *parts in zip(first + later, *shards, strict=True):
        for key in batch:
            np.testing.assert_array_equal(batch[key], np.concatenate([part[key] for part in parts]))
    plain = take(train(source), 5)
    assert not np.array_equal(plain[0]["image"], first[0]["image"])


def test_the_size_of_the_frame_is_given_to_who_asks(source):
    seen = set()

    def look(example, rng, image_hw=None):
        seen.add(image_hw)
        return example

    next(train(source, augmentations=[look]))
    assert (96, 128) in seen


def test_a_bad_image_among_those_mixed_in_is_replaced(source):
    class OneGood:
        label_map = source.label_map

        """Only record 3 can be decoded."""

        def __len__(self):
            return len(source)

        def __getitem__(self, index):
            record = source[index]
            return record if index == 3 else dataclasses.replace(record, encoded=b"")

    def beside(example, rng, *, more):
        return example._replace(image=np.concatenate([example.image, more().image], axis=1))

    batch = next(train(OneGood(), augmentations=[beside], bad_images="skip"))
    assert set(batch["image_id"].tolist()) == {4}
    assert (batch["original_hw"] == np.array(source[3].original_hw)[None]).all()
    with pytest.raises(UserError, match="the file is empty"):
        next(train(OneGood(), augmentations=[beside]))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"image": np.zeros((5, 5, 3), np.float32)}, r"image float32 \[5, 5, 3\], not uint8"),
        ({"image": np.zeros((5, 5), np.uint8)}, r"image uint8 \[5, 5\], not uint8 \[h, w, 3\]"),
        ({"image": np.zeros((0, 5, 3), np.uint8)}, r"image uint8 \[0, 5, 3\], not"),
        ({"image": None}, "image None, not"),
        ({"boxes": np.zeros((2, 4))}, r"boxes float64 \[2, 4\], not float32"),
        ({"boxes": np.zeros((2, 5), np.float32)}, r"boxes float32 \[2, 5\], not float32"),
        ({"labels": np.zeros(3, np.int32)}, r"labels int32 \[3\], not int32 \[2\]"),
        ({"labels": np.zeros(2, np.int64)}, r"labels int64 \[2\], not int32 \[2\]"),
        ({"boxes": np.full((2, 4), np.nan, np.float32)}, "within the image of 640x480"),
        ({"boxes": np.full((2, 4), 641, np.float32)}, "within the image of 640x480"),
        ({"boxes": np.full((2, 4), -1, np.float32)}, "within the image of 640x480"),
        ({"boxes": np.array([[9, 0, 5, 5]] * 2, np.float32)}, "within the image of 640x480"),
        ({"placing": Placing(0.0)}, "a scale above 0"),
        ({"placing": 1.0}, "a scale above 0"),
        ({"placing": Placing(1.0, (0.0, 2.0))}, "two numbers from 0 to 1"),
    ],
)
def test_what_breaks_the_contract_is_named_before_anything_is_read(fields, said):
    def broken(example, rng):
        return example._replace(**fields)

    with pytest.raises(UserError, match=said) as error:
        find_steps([broken])
    message = str(error.value)
    assert "broken, given an image without content, " in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("flp", "unknown augmentation 'flp': did you mean 'flip'"),
        ("flip(p=1)", "flip has no setting 'p'; it has probability"),
        ("flip(0.5)", r"settings cannot be read; write them as in flip\(size=16"),
        ("flip(probability=x)", "settings cannot be read"),
        ("flip(", "unknown augmentation"),
        ("nowhere.py:f(by=2)", "nowhere.py:f is code in a file, which is not run without consent"),
        (lambda example, rng: None, "returns NoneType, not an Example"),
        (lambda example: example, "fails on an image without content: TypeError"),
        (7, "is 7, not a function"),
    ],
)
def test_what_is_no_augmentation_is_one_line(entry, said):
    with pytest.raises(UserError, match=said) as error:
        find_steps([entry])
    assert "\n" not in str(error.value)


def test_an_augmentation_that_fails_later_names_itself_and_the_image(source):
    def sometimes(example, rng):
        if example.image.shape[0] < 480:
            raise KeyError("x")
        return example

    with pytest.raises(UserError, match=r"sometimes fails on train-\d+\.jpg: KeyError: 'x' \(.*py"):
        next(train(source, augmentations=[sometimes]))


def test_boxes_that_the_data_has_outside_are_not_the_augmentations_fault(source):
    class Overhanging:
        label_map = source.label_map

        def __len__(self):
            return 4

        def __getitem__(self, index):
            return dataclasses.replace(source[index], boxes=source[index].boxes + np.float32(300))

    batch = next(train(Overhanging(), augmentations=["flip", partial(scale_jitter, scales=(1, 1))]))
    assert batch["mask"].all()
