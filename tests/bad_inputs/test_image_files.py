"""Files that are no usable images: each is refused in a line, or left out with its number."""

import os
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from in_process import assert_refused, run_command

from bifpn_jax import inference
from bifpn_jax.command_line import trained_model
from bifpn_jax.data.images.image_remarks import ALPHA
from bifpn_jax.data.label_map import LabelMap
from bifpn_jax.data.pipeline import eval_batches, skipped_ids, train_batches
from bifpn_jax.data.records import BadImageError, load_image
from bifpn_jax.data.sources.coco_folder import CocoJson
from bifpn_jax.trained import Detector


def encoded(suffix, pixels, *options):
    done, data = cv2.imencode(suffix, pixels, *options)
    assert done
    return data.tobytes()


GREY = np.full((40, 60, 3), 90, np.uint8)
JPEG, PNG = encoded(".jpg", GREY), encoded(".png", GREY)


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width, height):
    """A whole PNG file of 100 bytes that claims to have this size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(bytes(99)))
    return b"\x89PNG\r\n\x1a\n" + chunks + png_chunk(b"IEND", b"")


def jpeg_of(width, height):
    start = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:start] + struct.pack(">HH", height, width) + JPEG[start + 4 :]


def turned_jpeg():
    """A JPEG whose EXIF tag says that it is to be shown on its side."""
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0" + tiff
    return JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + JPEG[2:]


def tiff_of(width, height):
    fields = ((256, width), (257, height))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields)
    return b"II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)


def big_tiff_of(width, height):
    fields = ((256, width), (257, height))
    entries = b"".join(struct.pack("<HHQQ", tag, 16, 1, value) for tag, value in fields)
    return b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 2) + entries + bytes(8)


def webp_of(kind, body):
    chunk = kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


# Name -> (content of the file, what must be said).
CONTENTS = {
    "no bytes": (b"", "the file is empty"),
    "text": (b"this is no picture", "not an image that OpenCV can decode"),
    "a web page": (b"<!DOCTYPE html><html>404</html>", "not an image"),
    "a video": (b"\0\0\0\x18ftypmp42" + bytes(200), "not an image"),
    "zeros": (bytes(5000), "not an image"),
    "a Git LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 99\n",
        "a Git LFS pointer to one; fetch the images with 'git lfs pull'",
    ),
    "a HEIC photograph": (b"\0\0\0\x18ftypheic" + bytes(200), "a HEIC photograph"),
    "a TIFF of damaged data": (
        encoded(".tiff", GREY, [cv2.IMWRITE_TIFF_COMPRESSION, 8])[:40] + bytes(4000),
        "first.jpg",
    ),
    "cut-off JPEG": (JPEG[:-30], r"cut off after \d+ bytes"),
    "JPEG of a header alone": (JPEG[:20], "cut off after 20 bytes"),
    "JPEG marker alone": (b"\xff\xd8\xff", "cut off after 3 bytes"),
    "cut-off PNG": (PNG[:-20], r"cut off after \d+ bytes"),
    "PNG signature alone": (b"\x89PNG\r\n\x1a\n", "cut off after 8 bytes"),
    "cut-off BMP": (encoded(".bmp", GREY)[:40], "not an image"),
    "cut-off WebP": (encoded(".webp", GREY)[:30], "not an image"),
    "other size": (encoded(".jpg", GREY[:30]), "60x30 pixels .* annotations say 60x40"),
    "turned by EXIF": (turned_jpeg(), "40x60 pixels .* EXIF rotation"),
    "pixels of 32 bits": (encoded(".tiff", np.zeros((40, 60, 3), np.float32)), "type float32"),
    "PNG of a gigapixel": (png_of(2**15, 2**15), "32768x32768 pixels"),
    "PNG of one long line": (png_of(2**31 - 1, 1), "2147483647x1 pixels"),
    "JPEG of 4 gigapixels": (jpeg_of(65535, 65535), "65535x65535 pixels"),
    "BMP of 4 gigapixels": (
        b"BM" + struct.pack("<IIIIii", 99, 0, 54, 40, 2**16, -(2**16)) + bytes(60),
        "65536x65536 pixels",
    ),
    "old BMP of a gigapixel": (
        b"BM" + struct.pack("<IIIIHH", 99, 0, 26, 12, 2**15, 2**15) + bytes(60),
        "32768x32768 pixels",
    ),
    "GIF of 4 gigapixels": (
        b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(60),
        "65535x65535 pixels",
    ),
    "WebP of a gigapixel": (
        webp_of(b"VP8X", bytes(4) + b"\xff\x7f\0\xff\x7f\0"),
        "32768x32768 pixels",
    ),
    "TIFF of a terapixel": (tiff_of(2**20, 2**20), "1048576x1048576 pixels"),
    "BigTIFF of an exapixel": (big_tiff_of(2**30, 2**30), "1073741824x1073741824 pixels"),
    "netpbm of a gigapixel": (b"P6 # no comment\n32768 32768\n255\n", "32768x32768 pixels"),
    "PAM of a gigapixel": (
        b"P7\nWIDTH 32768\nHEIGHT 32768\nDEPTH 3\nMAXVAL 255\nENDHDR\n",
        "32768x32768 pixels",
    ),
    "Radiance of a gigapixel": (
        b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 32768 +X 32767\n",
        "32767x32768 pixels",
    ),
    "JPEG 2000 of a gigapixel": (
        b"\xff\x4f\xff\x51" + struct.pack(">HHII", 47, 0, 2**15, 2**15) + bytes(60),
        "32768x32768 pixels",
    ),
    "Sun raster of a gigapixel": (
        b"\x59\xa6\x6a\x95" + struct.pack(">II", 2**15, 2**15) + bytes(60),
        "32768x32768 pixels",
    ),
}


def leave(path):
    path.unlink()


def folder_instead(path):
    path.unlink()
    path.mkdir()


def pipe_instead(path):
    path.unlink()
    os.mkfifo(path)


def device_instead(path):
    path.unlink()
    path.symlink_to("/dev/zero")


def link_out(path):
    outside = path.parent.parent / "elsewhere.jpg"
    path.rename(outside)
    path.symlink_to(outside)


def link_to_nothing(path):
    path.unlink()
    path.symlink_to("absent.jpg")


def link_in_a_circle(path):
    path.unlink()
    path.symlink_to(path.name)


def huge_file(path):
    os.truncate(path, 2**31)  # without any content on the disk


# Name -> (what happens to the file, what must be said).
PLACES = {
    "missing": (leave, "1 of the 4 images named in .* are missing"),
    "a folder": (folder_instead, "a folder, pipe or device"),
    "a pipe": (pipe_instead, "a folder, pipe or device"),
    "a device": (device_instead, "a link to /dev/zero, outside"),
    "a link that leads out": (link_out, r"a link to \S+elsewhere.jpg, outside"),
    "a link to nothing": (link_to_nothing, "cannot be read .No such file"),
    "a link to itself": (link_in_a_circle, "cannot be read"),
    "a huge file": (huge_file, "a file of 2.1 GB"),
}

# Name -> (file_name in the JSON, what must be said).
NAMES = {
    "one level up": ("../first.jpg", "'../first.jpg' lies outside of"),
    "up and down again": ("../images/first.jpg", "lies outside of"),
    "up in the middle": ("a/../first.jpg", "lies outside of"),
    "absolute": ("/etc/hostname", "'/etc/hostname' lies outside of"),
    "the folder itself": (".", "1 of the 4 images .* are missing"),
    "with a null": ("null\0.jpg", "1 of the 4 images .* are missing"),
    "too long": ("x" * 5000 + ".jpg", "1 of the 4 images .* are missing"),
}


def damage(coco, case):
    if case in CONTENTS:
        content, words = CONTENTS[case]
        coco.first.write_bytes(content)
        return words
    if case in PLACES:
        change, words = PLACES[case]
        change(coco.first)
        return words
    name, words = NAMES[case]
    coco.rename_first(name)
    return words


CASES = [*CONTENTS, *PLACES, *NAMES]


@pytest.mark.parametrize("case", CASES)
def test_a_bad_image_is_refused_or_left_out(case, coco, train_on, tmp_path):
    words = damage(coco, case)
    tracemalloc.start()
    ended = train_on()
    source = CocoJson(coco.images, coco.annotations, bad_images="skip")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert_refused(ended, words, str(coco.root), r"--config\.data\.bad_images=skip")
    assert not (tmp_path / "run").exists()
    assert peak < 1e8  # bytes: neither the pixels nor a huge file were read

    assert [record.image_id for record in source] == [2, 3, 4]
    assert [image.image_id for image in source.left_out] == [1]
    assert "; bad images skipped: 1" in source.summary()
    name = coco.content["images"][0]["file_name"]
    assert name == "." or repr(name)[1:-1] in str(source.left_out[0])
    truth = source.ground_truth()
    assert [entry["image_id"] for entry in truth["annotations"]] == [2, 3, 4]


@pytest.mark.parametrize(
    "content",
    [
        encoded(".png", np.full((40, 60), 40_000, np.uint16)),
        encoded(".png", np.full((40, 60, 4), 90, np.uint8)),
        encoded(".webp", GREY),
        encoded(".bmp", GREY),
        encoded(".gif", GREY),
        encoded(".tiff", GREY),
        encoded(".ppm", GREY),
        JPEG + b"appended by a camera",
    ],
    ids=["16 bits", "alpha", "WebP", "BMP", "GIF", "TIFF", "netpbm", "JPEG and more"],
)
def test_unusual_images_are_good(content, coco):
    coco.first.write_bytes(content)
    assert CocoJson(coco.images, coco.annotations)[0].original_hw == (40, 60)


def damaged_jpeg():
    """A JPEG that begins and ends well and has other bytes in the middle."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    whole = encoded(".jpg", noise)
    start = len(whole) // 2
    return whole[:start] + np.random.default_rng(1).bytes(500) + whole[start + 500 :]


def test_damage_inside_is_found_where_an_image_is_read(coco):
    coco.first.write_bytes(damaged_jpeg())
    source = CocoJson(coco.images, coco.annotations)
    with pytest.raises(BadImageError, match=r"first\.jpg: the image is damaged inside") as caught:
        load_image(source[0])
    assert caught.value.image_id == 1
    options = {"batch_size": 4, "image_hw": (32, 48), "max_boxes": 3, "num_threads": 2}
    with pytest.raises(BadImageError, match=r"first\.jpg: the image is damaged inside"):
        list(eval_batches(source, **options))
    (batch,) = eval_batches(source, bad_images="skip", **options)
    assert skipped_ids(batch) == [1]
    batch = next(train_batches(source, seed=0, bad_images="skip", **options))
    assert skipped_ids(batch) == [1]


def test_predict_names_a_damaged_image_and_says_once_what_is_not_used(tmp_path, capfd, monkeypatch):
    found = inference.ImageDetections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), [])
    detector = Detector(None, {}, LabelMap((1,), ("cat",)))
    monkeypatch.setattr(Detector, "__call__", lambda self, image: found)
    monkeypatch.setattr(trained_model, "load_from_flags", lambda: detector)
    for name, content in {
        "a.jpg": damaged_jpeg(),
        "b.png": encoded(".png", np.full((40, 60, 4), 90, np.uint8)),
        "c.png": encoded(".png", np.full((40, 60, 4), 90, np.uint8)),
        "d.jpg": JPEG,
    }.items():
        (tmp_path / name).write_bytes(content)
    words = ["--weights=none", f"--output={tmp_path / 'out'}", tmp_path]
    ended = run_command("predict", *words)
    assert ended.status == 2
    error, note = ended.err.splitlines()
    assert error.startswith(f"error: {tmp_path / 'a.jpg'}: the image is damaged inside (")
    assert note == f"note: {ALPHA}: 2, such as {tmp_path / 'b.png'}"
    assert capfd.readouterr().err == ""  # nothing from the decoder
