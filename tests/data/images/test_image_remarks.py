"""What is not used of images is said once for a dataset, with a count and the first file."""

import io
import json

import cv2
import numpy as np
import pytest
from PIL import Image, ImageSequence

from bifpn_jax.data.images import image_file
from bifpn_jax.data.images.image_decoding import decode_image
from bifpn_jax.data.images.image_remarks import (
    ALPHA,
    BANDS,
    CMYK,
    LOW_BITS,
    PAGES,
    TURNED,
    add_up,
    header_remarks,
    image_remarks,
)
from bifpn_jax.data.sources.coco_folder import CocoJson

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
IMAGE, OTHER = Image.fromarray(RGB), Image.fromarray(255 - RGB)
PALETTE = IMAGE.convert("P")
RGBA = Image.fromarray(np.dstack([RGB, RGB[..., :1]]))


def encode(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def deep(kind, white):
    pixels = np.linspace(0, white, 600).astype(np.uint16).reshape(20, 30)
    return cv2.imencode(kind, pixels)[1].tobytes()


def animated(kind, **options):
    return encode(IMAGE, kind, save_all=True, append_images=[OTHER], duration=90, **options)


TURN = Image.Exif()
TURN[0x112] = 6  # a quarter to the right
UPRIGHT = IMAGE.transpose(Image.Transpose.ROTATE_90)

KINDS = {
    "JPEG": (encode(IMAGE, "JPEG"), []),
    "grey JPEG": (encode(IMAGE.convert("L"), "JPEG"), []),
    "CMYK JPEG": (encode(IMAGE.convert("CMYK"), "JPEG"), [CMYK]),
    "PNG": (encode(IMAGE, "PNG"), []),
    "PNG of a palette": (encode(IMAGE.convert("P"), "PNG"), []),
    "PNG with alpha": (encode(RGBA, "PNG"), [ALPHA]),
    "grey PNG with alpha": (encode(RGBA.convert("LA"), "PNG"), [ALPHA]),
    "PNG with a transparent colour": (encode(IMAGE.convert("P"), "PNG", transparency=3), [ALPHA]),
    "PNG of 16 bits": (deep(".png", 65535), []),
    "PNG of 12 bits of 16": (deep(".png", 4095), [LOW_BITS]),
    "PNG of 10 bits of 16": (deep(".png", 1023), [LOW_BITS]),
    "black PNG of 16 bits": (deep(".png", 0), []),
    "dark PNG of 8 bits": (encode(Image.fromarray(RGB // 16), "PNG"), []),
    "animated PNG": (animated("PNG"), [PAGES]),
    "BMP": (encode(IMAGE, "BMP"), []),
    "GIF": (encode(IMAGE, "GIF"), []),
    "animated GIF": (animated("GIF"), [PAGES]),
    "GIF with a transparent colour": (
        encode(PALETTE, "GIF", transparency=PALETTE.getpixel((5, 5))),
        [ALPHA],
    ),
    "WebP": (encode(IMAGE, "WEBP"), []),
    "WebP with alpha": (encode(RGBA, "WEBP"), [ALPHA]),
    "animated WebP": (animated("WEBP"), [PAGES]),
    "TIFF": (encode(IMAGE, "TIFF"), []),
    "grey TIFF": (encode(IMAGE.convert("L"), "TIFF"), []),
    "TIFF with alpha": (encode(RGBA, "TIFF"), [ALPHA]),
    "TIFF of a fourth band": (cv2.imencode(".tiff", np.asarray(RGBA))[1].tobytes(), [BANDS]),
    "turned JPEG": (
        encode(UPRIGHT, "JPEG", exif=TURN),
        [TURNED],
    ),
    "turned PNG": (encode(UPRIGHT, "PNG", exif=TURN), [TURNED]),
    "CMYK TIFF": (encode(IMAGE.convert("CMYK"), "TIFF"), [CMYK]),
    "TIFF of two pages": (animated("TIFF"), [PAGES]),
    "TIFF of 16 bits": (deep(".tiff", 65535), []),
    "TIFF of 12 bits of 16": (deep(".tiff", 4095), [LOW_BITS]),
    "TIFF of two pages with alpha": (
        encode(RGBA, "TIFF", save_all=True, append_images=[RGBA]),
        [ALPHA, PAGES],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_used_is_remarked_on(kind):
    encoded, expected = KINDS[kind]
    image = decode_image(encoded, kind)
    assert image_remarks(encoded, image) == expected
    from_header = header_remarks(encoded)
    assert from_header is None or from_header == expected


@pytest.mark.parametrize("kind", ["animated GIF", "animated WebP", "animated PNG"])
def test_the_first_frame_is_what_is_decoded(kind):
    encoded, _ = KINDS[kind]
    first = next(iter(ImageSequence.Iterator(Image.open(io.BytesIO(encoded))))).convert("RGB")
    difference = np.abs(decode_image(encoded, kind).astype(int) - np.asarray(first))
    assert difference.mean() < 12  # lossy, or a palette; the other frame is a hundred away


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "JPEG" in kind or "PNG" in kind])
def test_a_check_decodes_no_jpeg_and_png_of_8_bits(kind, tmp_path, monkeypatch):
    encoded, expected = KINDS[kind]
    path = tmp_path / "image"
    path.write_bytes(encoded)
    checked = image_file.check_image(path)
    assert checked == ((20, 30), expected)
    if "16" in kind:
        return
    monkeypatch.setattr(image_file, "load_image", lambda *_, **__: pytest.fail("it decodes"))
    assert image_file.check_image(path, (20, 30)) == checked


def test_a_long_header_is_read_to_its_end_without_a_decode(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(encode(RGBA, "PNG", icc_profile=np.random.default_rng(0).bytes(9000)))
    monkeypatch.setattr(image_file, "load_image", lambda *_, **__: pytest.fail("it decodes"))
    assert image_file.check_image(path) == ((20, 30), [ALPHA])


def test_remarks_add_up_to_a_clause_each():
    assert add_up([]) == add_up([("a.jpg", [])]) == []
    found = [("a.png", [ALPHA]), ("b.png", []), ("c.tif", [PAGES, ALPHA])]
    assert add_up(found) == [f"{ALPHA}: 2, such as a.png", f"{PAGES}: 1, such as c.tif"]


def test_a_dataset_says_once_what_is_not_used(tmp_path):
    names = {
        "a.jpg": "JPEG",
        "b.png": "PNG with alpha",
        "c.png": "PNG with alpha",
        "d.tif": "TIFF of two pages with alpha",
        "e.png": "PNG of 12 bits of 16",
    }
    for name, kind in names.items():
        (tmp_path / name).write_bytes(KINDS[kind][0])
    content = {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [2, 3, 9, 9]}],
        "categories": [{"id": 1, "name": "thing"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    summary = CocoJson(tmp_path, tmp_path / "a.json").summary()
    assert summary.endswith(
        f"; {ALPHA}: 3, such as b.png; {PAGES}: 1, such as d.tif; {LOW_BITS}: 1, such as e.png"
    )
    (tmp_path / "d.tif").write_bytes(b"no image")
    summary = CocoJson(tmp_path, tmp_path / "a.json", bad_images="skip").summary()
    assert f"; bad images skipped: 1; {ALPHA}: 2, such as b.png; {LOW_BITS}: 1" in summary
