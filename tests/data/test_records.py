import io

import cv2
import numpy as np
import pytest
from PIL import Image

from bifpn_jax.data.images.image_header import ends_whole, image_hw, is_truncated
from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.data.records import Record, decode_image, load_image, to_coco
from bifpn_jax.errors import UserError

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
DEEP = np.linspace(0, 65535, 600).round().astype(np.uint16).reshape(20, 30)


def encode(image, kind, **options) -> bytes:
    """Encode with Pillow, so that writer and reader are two independent programs."""
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def record(encoded, hw=None, **fields):
    values = {
        "image_id": 1,
        "encoded": encoded,
        "where": "a.jpg",
        "boxes": np.zeros((0, 4), np.float32),
        "labels": np.zeros(0, np.int32),
        "is_crowd": np.zeros(0, bool),
        "area": np.zeros(0, np.float32),
        "original_hw": hw,
    }
    return Record(**values | fields)


PALETTE = Image.fromarray(RGB).convert("P")
KINDS = {
    "png": (encode(RGB, "PNG"), RGB),
    "bmp": (encode(RGB, "BMP"), RGB),
    "tiff": (encode(RGB, "TIFF"), RGB),
    "webp": (encode(RGB, "WEBP", lossless=True), RGB),
    "grey": (encode(RGB[..., 0], "PNG"), np.repeat(RGB[..., :1], 3, axis=2)),
    "black and white": (
        encode(Image.fromarray(RGB[..., 0] > 127), "PNG"),
        np.repeat((RGB[..., :1] > 127) * np.uint8(255), 3, axis=2),
    ),
    "palette": (encode(PALETTE, "PNG"), np.asarray(PALETTE.convert("RGB"))),
    "alpha": (encode(np.dstack([RGB, RGB[..., 0]]), "PNG"), RGB),
    "grey with alpha": (encode(RGB[..., :2], "PNG"), np.repeat(RGB[..., :1], 3, axis=2)),
    "16 bit": (
        encode(DEEP, "PNG"),
        np.repeat(np.round(DEEP / 257).astype(np.uint8)[..., None], 3, axis=2),
    ),
    "16 bit colour": (
        cv2.imencode(".png", np.dstack([DEEP, DEEP[::-1], DEEP * 0]))[1].tobytes(),
        np.round(np.dstack([DEEP * 0, DEEP[::-1], DEEP]) / 257).astype(np.uint8),
    ),
    "16 bit colour tiff": (
        cv2.imencode(".tiff", np.dstack([DEEP, DEEP[::-1], DEEP * 0]))[1].tobytes(),
        np.round(np.dstack([DEEP * 0, DEEP[::-1], DEEP]) / 257).astype(np.uint8),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_becomes_rgb(kind):
    encoded, expected = KINDS[kind]
    image = decode_image(encoded, "image")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_agree_with_another_decoder(mode):
    smooth = cv2.GaussianBlur(RGB, (9, 9), 3)
    encoded = encode(Image.fromarray(smooth).convert(mode), "JPEG", quality=95)
    expected = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"), int)
    difference = np.abs(decode_image(encoded, "image").astype(int) - expected)
    assert difference.mean() < 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_rotation_is_honoured(orientation, kind):
    # One bright corner of an oblong image tells all eight orientations apart.
    marked = np.zeros((16, 48, 3), np.uint8)
    marked[:8, :16] = 255
    upright = {
        1: marked,
        2: marked[:, ::-1],
        3: marked[::-1, ::-1],
        4: marked[::-1],
        5: marked.transpose(1, 0, 2),
        6: marked.transpose(1, 0, 2)[:, ::-1],
        7: marked.transpose(1, 0, 2)[::-1, ::-1],
        8: marked.transpose(1, 0, 2)[::-1],
    }[orientation]
    encoded = encode(marked, kind, exif=exif(orientation))
    image = decode_image(encoded, "image")
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).max() < 40
    assert image_hw(encoded) == upright.shape[:2]


@pytest.mark.parametrize("progressive", [False, True])
def test_header_tells_the_size_from_the_first_bytes(progressive):
    encoded = encode(RGB, "JPEG", progressive=progressive)
    assert image_hw(encoded[:1000]) == (20, 30)
    assert image_hw(encode(RGB, "PNG")[:64]) == (20, 30)
    assert image_hw(encoded[:100]) is None
    assert image_hw(encode(RGB, "BMP")) is None
    assert image_hw(b"") is None


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": exif(6)}])
def test_truncated_jpegs_are_found_wherever_they_end(options):
    encoded = encode(RGB, "JPEG", **options)
    assert not is_truncated(encoded)
    assert ends_whole(encoded)
    for length in range(3, len(encoded) - 1, 7):
        assert is_truncated(encoded[:length])
        with pytest.raises(UserError, match=r"^dir/a.jpg: the image is cut off after \d+ bytes; "):
            decode_image(encoded[:length], "dir/a.jpg")


def test_the_end_of_an_exif_thumbnail_is_not_the_end_of_the_image():
    encoded = encode(RGB, "JPEG")
    thumbnail = b"Exif\x00\x00" + encode(RGB[:8, :8], "JPEG")
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    encoded = encoded[:2] + segment + encoded[2:]
    assert decode_image(encoded, "image").shape == RGB.shape
    assert is_truncated(encoded[: len(encoded) - 50])
    assert image_hw(encoded) == (20, 30)


def test_bytes_after_the_end_are_no_fault():
    for kind in ("JPEG", "PNG"):
        encoded = encode(RGB, kind) + b"appended by a camera" * 10
        assert not is_truncated(encoded)
        assert not ends_whole(encoded)
        assert decode_image(encoded, "image").shape == RGB.shape


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (b"", "the file is empty"),
        (b"<html>not found</html>", "not an image that OpenCV can decode"),
        (encode(RGB, "PNG")[:-20], "cut off"),
        (encode(RGB, "BMP")[:-100], "not an image that OpenCV can decode, or a damaged one"),
        (cv2.imencode(".tiff", np.ones((4, 4, 3), np.float32))[1].tobytes(), "type float32"),
    ],
)
def test_bad_images_are_named(encoded, message):
    with pytest.raises(UserError, match=f"^dir/x.jpg: .*{message}"):
        decode_image(encoded, "dir/x.jpg")


def test_size_is_compared_with_the_annotations():
    encoded = encode(RGB, "PNG")
    assert load_image(record(encoded)).shape == (20, 30, 3)
    assert load_image(record(encoded, (20, 30))).shape == (20, 30, 3)
    with pytest.raises(UserError, match=r"a\.jpg: the image is 30x20 .* say 31x20"):
        load_image(record(encoded, (20, 31)))
    with pytest.raises(UserError, match="EXIF rotation"):
        load_image(record(encode(RGB, "JPEG", exif=exif(6)), (20, 30)))


def test_records_become_a_coco_file():
    label_map = LabelMap((3, 8), ("cat", "dog"))
    first = record(
        encode(RGB, "PNG"),
        image_id=5,
        boxes=np.array([[1, 2, 5, 10], [0, 0, 20, 30]], np.float32),
        labels=np.array([1, 0], np.int32),
        is_crowd=np.array([False, True]),
        area=np.array([30.5, 600], np.float32),
    )
    content = to_coco([first, record(b"", (4, 6), image_id=9)], label_map)
    assert content["images"] == [
        {"id": 5, "file_name": "a.jpg", "height": 20, "width": 30},
        {"id": 9, "file_name": "a.jpg", "height": 4, "width": 6},
    ]
    assert content["annotations"][0] == {
        "id": 1,
        "image_id": 5,
        "category_id": 8,
        "bbox": [2, 1, 8, 4],
        "area": 30.5,
        "iscrowd": 0,
    }
    assert content["annotations"][1]["iscrowd"] == 1
    assert content["categories"] == [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}]
