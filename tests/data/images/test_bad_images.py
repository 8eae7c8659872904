"""What becomes of images that cannot be used: refused, left out, or replaced while training."""

import json
import os
import re

import cv2
import numpy as np
import pytest

from bifpn_jax.data.pipeline import eval_batches, skipped_ids, train_batches
from bifpn_jax.data.records import BadImageError
from bifpn_jax.data.rows import NONE_SKIPPED
from bifpn_jax.data.sources.coco_folder import CocoJson
from bifpn_jax.data.sources.relabelling import Relabelled
from bifpn_jax.errors import UserError
from bifpn_jax.evaluation.evaluator import without_images

FRAME = (32, 48)


@pytest.fixture
def folder(tmp_path):
    """Ten small images with the ids 100 to 109 and one object each."""
    for i in range(10):
        image = np.random.default_rng(i).integers(0, 256, (20, 30, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)
    content = {
        "images": [{"id": 100 + i, "file_name": f"{i}.png"} for i in range(10)],
        "annotations": [
            {"id": i + 1, "image_id": 100 + i, "category_id": 1, "bbox": [1, 2, 5, 5 + i]}
            for i in range(10)
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    return tmp_path


def opened(folder, **options):
    return CocoJson(folder, folder / "a.json", **options)


def spoil(folder, *numbers):
    for i in numbers:
        (folder / f"{i}.png").write_bytes(b"no image")


def train(source, **options):
    defaults = {"batch_size": 4, "image_hw": FRAME, "max_boxes": 3, "seed": 0, "num_threads": 2}
    return train_batches(source, bad_images="skip", **defaults | options)


def take(batches, count):
    return [{key: np.copy(value) for key, value in next(batches).items()} for _ in range(count)]


def joined(batches, key):
    return np.concatenate([batch[key] for batch in batches]).tolist()


def test_bad_images_are_left_out_with_their_annotations(folder):
    spoil(folder, 2)
    (folder / "5.png").unlink()
    with pytest.raises(BadImageError, match=r"1 of the 10 images .* are missing.*bad_images=skip"):
        opened(folder)
    source = opened(folder, bad_images="skip")
    assert len(source) == 8
    assert "; bad images skipped: 2" in source.summary()
    assert [image.image_id for image in source.left_out] == [102, 105]
    assert "2.png: not an image" in str(source.left_out[0])
    assert "there is no image '5.png'" in str(source.left_out[1])
    truth = source.ground_truth()
    kept = [100, 101, 103, 104, 106, 107, 108, 109]
    assert [image["id"] for image in truth["images"]] == kept
    assert [entry["image_id"] for entry in truth["annotations"]] == kept
    assert [source[i].image_id for i in range(8)] == kept
    assert Relabelled(source, source.label_map).left_out == source.left_out


def test_what_is_wrong_with_the_file_is_still_said(folder):
    spoil(folder, 0)
    content = json.loads((folder / "a.json").read_text())
    content["annotations"][3]["id"] = content["annotations"][9]["id"]
    (folder / "a.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"annotations\[3\] and annotations\[9\] both have the id"):
        opened(folder, bad_images="skip")


def test_no_good_image_is_an_error(folder):
    spoil(folder, *range(10))
    with pytest.raises(UserError, match=r"0.png: not an image.*none of the 10 images"):
        opened(folder, bad_images="skip")
    for path in folder.glob("*.png"):
        path.unlink()
    with pytest.raises(UserError, match="10 of the 10 images"):
        opened(folder, bad_images="skip")


def test_links_may_stay_within_the_folder(folder, tmp_path_factory):
    (folder / "3.png").unlink()
    os.symlink("4.png", folder / "3.png")
    assert len(opened(folder)) == 10
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "7.png"
    os.rename(folder / "7.png", elsewhere)
    os.symlink(elsewhere, folder / "7.png")
    with pytest.raises(UserError, match=f"7.png: a link to {re.escape(str(elsewhere))}, outside"):
        opened(folder)
    assert [i.image_id for i in opened(folder, bad_images="skip").left_out] == [107]
    linked = tmp_path_factory.mktemp("linked") / "images"
    os.symlink(folder, linked)  # the folder itself may be a link
    source = CocoJson(linked, folder / "a.json", bad_images="skip")
    assert len(source) == 9


def test_the_next_good_image_takes_the_place(folder):
    source = opened(folder)
    before = take(train(source), 5)
    spoil(folder, 2, 3)
    after = take(train(source), 5)
    assert set(joined(before, "skipped_id")) == {NONE_SKIPPED}
    expected = [{102: 104, 103: 104}.get(i, i) for i in joined(before, "image_id")]
    assert joined(after, "image_id") == expected
    skipped = [i if i in (102, 103) else NONE_SKIPPED for i in joined(before, "image_id")]
    assert joined(after, "skipped_id") == skipped
    assert sorted({i for batch in after for i in skipped_ids(batch)}) == [102, 103]
    assert all(mask for mask in joined(after, "mask"))
    # All other rows are what they were, image and augmentation.
    same = np.array(skipped) == NONE_SKIPPED
    for key in before[0].keys() - {"more_skipped"}:  # not of rows
        a, b = (np.concatenate([batch[key] for batch in run])[same] for run in (before, after))
        np.testing.assert_array_equal(a, b, err_msg=key)


def test_replacements_depend_on_nothing_but_the_data(folder):
    source = opened(folder)
    spoil(folder, 0, 9)
    whole = take(train(source, num_threads=1), 6)
    threads = take(train(source, num_threads=5), 6)
    shards = [take(train(source, shard_index=i, shard_count=2), 6) for i in range(2)]
    together = [
        {key: np.concatenate([a[key], b[key]]) for key in a} for a, b in zip(*shards, strict=True)
    ]
    stopped = train(source)
    first = take(stopped, 2)
    resumed = train(source)
    resumed.set_state(stopped.get_state())
    for other in (threads, together, first + take(resumed, 4)):
        for a, b in zip(whole, other, strict=True):
            for key in a:
                np.testing.assert_array_equal(a[key], b[key], err_msg=key)
    assert {i for batch in whole for i in skipped_ids(batch)} == {100, 109}


def beside(example, rng, *, more):
    """An image with another one of the data at its side."""
    return example._replace(image=np.concatenate([example.image, more().image], axis=1))


def test_bad_images_that_an_augmentation_draws_are_counted(folder):
    source = opened(folder)
    spoil(folder, 4, 7)
    whole = take(train(source, augmentations=[beside], num_threads=1), 20)
    drawn = [batch["more_skipped"].tolist() for batch in whole]
    assert {i for ids in drawn for i in ids} == {104, 107}
    own = joined(whole, "skipped_id")
    assert own.count(104) == own.count(107) == 8  # as without the augmentation
    for batch, ids in zip(whole, drawn, strict=True):
        assert skipped_ids(batch) == [i for i in batch["skipped_id"] if i != NONE_SKIPPED] + ids
    shards = [
        take(train(source, augmentations=[beside], shard_index=i, shard_count=2), 20)
        for i in range(2)
    ]
    assert drawn == [[*a["more_skipped"], *b["more_skipped"]] for a, b in zip(*shards, strict=True)]


def test_without_the_policy_a_bad_image_stops(folder):
    source = opened(folder)
    spoil(folder, *range(10))
    batches = train_batches(source, batch_size=4, image_hw=FRAME, max_boxes=3, seed=0)
    with pytest.raises(BadImageError, match="not an image"):
        next(batches)
    with pytest.raises(UserError, match=r"not an image.*\(10 images in a row are bad\)"):
        next(train(source))


def test_evaluation_leaves_a_bad_image_out(folder):
    source = opened(folder)
    spoil(folder, 4)
    options = {"batch_size": 4, "image_hw": FRAME, "max_boxes": 3}
    batches = list(eval_batches(source, bad_images="skip", **options))
    assert joined(batches, "image_id") == [*range(100, 104), -1, *range(105, 110), -1, -1]
    assert joined(batches, "mask") == [i >= 0 for i in joined(batches, "image_id")]
    assert [i for batch in batches for i in skipped_ids(batch)] == [104]
    assert not batches[1]["image"][0].any()
    truth = without_images(source.ground_truth(), [104])
    assert len(truth["images"]) == len(truth["annotations"]) == 9
    with pytest.raises(BadImageError, match=r"4\.png"):
        list(eval_batches(source, **options))


def test_unknown_policy(folder):
    with pytest.raises(UserError, match=r"bad_images to one of \('error', 'skip'\)"):
        opened(folder, bad_images="clip")
