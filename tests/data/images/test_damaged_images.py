"""Damage inside of image files that begin and end well: found where the format shows it."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from bifpn_jax.data.images.image_decoding import decode_image
from bifpn_jax.data.images.image_header import image_hw
from bifpn_jax.errors import UserError

NOISE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
SMOOTH = cv2.GaussianBlur(NOISE, (9, 9), 3) * 3


def encode(pixels, kind, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def overwritten(encoded, seed, length=120):
    """The file with random bytes somewhere in its second half."""
    rng = np.random.default_rng(seed)
    start = int(rng.integers(len(encoded) // 2, len(encoded) - length - 40))
    return encoded[:start] + rng.bytes(length) + encoded[start + length :]


def opencv(encoded):
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def jpeg(pixels, kind="RGB", **options):
    return encode(Image.fromarray(pixels).convert(kind), "JPEG", **{"quality": 90} | options)


JPEGS = {
    "4:4:4": jpeg(SMOOTH, subsampling=0),
    "4:2:2": jpeg(SMOOTH, subsampling=1),
    "4:2:0": jpeg(SMOOTH, subsampling=2),
    "progressive": jpeg(SMOOTH, progressive=True),
    "grey": jpeg(SMOOTH, "L"),
    "progressive grey": jpeg(SMOOTH, "L", progressive=True),
    "CMYK": jpeg(SMOOTH, "CMYK"),
    "restart markers": jpeg(SMOOTH, restart_marker_blocks=3),
    "own tables": jpeg(SMOOTH, optimize=True),
    "quality 20": jpeg(NOISE, quality=20),
}
TIFFS = {
    compression: encode(SMOOTH, "TIFF", compression=compression)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
}


def refusals(encoded):
    """What is said of twenty damaged copies."""
    messages = []
    for seed in range(20):
        try:
            decode_image(overwritten(encoded, seed), "dir/a.jpg")
        except UserError as error:
            messages.append(str(error))
    return messages


@pytest.mark.parametrize("kind", JPEGS)
def test_good_jpegs_have_the_pixels_that_opencv_gives(kind):
    np.testing.assert_array_equal(decode_image(JPEGS[kind], "image"), opencv(JPEGS[kind]))


@pytest.mark.parametrize("kind", JPEGS)
def test_damaged_jpegs_are_refused_without_a_word_from_the_decoder(kind, capfd):
    messages = refusals(JPEGS[kind])
    assert len(messages) >= 14  # by chance, random bytes may fit in
    for message in messages:
        assert message.startswith("dir/a.jpg: the image is damaged inside (")
        assert message.endswith("; put a good copy in its place or leave the image out")
        assert "\n" not in message
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("compression", TIFFS)
def test_damaged_tiffs_are_refused(compression):
    encoded = TIFFS[compression]
    image = decode_image(encoded, "image", thorough=True)
    np.testing.assert_array_equal(image, opencv(encoded))
    start = len(encoded) // 3
    damaged = encoded[:start] + b"\xff" * 900 + encoded[start + 900 :]
    if compression == "packbits":  # in which nearly any bytes mean something
        damaged = encoded[:start] + b"\x7f" * (len(encoded) - start)
    with pytest.raises(UserError, match=r"^a\.tif: "):
        decode_image(damaged, "a.tif", thorough=True)


def test_damaged_tiffs_of_16_bits_are_refused():
    pixels = np.arange(60 * 80 * 3, dtype=np.uint16).reshape(60, 80, 3) * 4
    encoded = cv2.imencode(".tiff", pixels)[1].tobytes()
    with pytest.raises(UserError, match=r"^a\.tif: "):
        decode_image(encoded[:200] + bytes(900) + encoded[1100:], "a.tif")


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_png_of_a_wrong_checksum_is_refused_without_a_word_from_the_decoder(capfd):
    encoded = encode(NOISE, "PNG")
    for seed in range(20):
        with pytest.raises(UserError, match=r"^a\.png: .*damaged inside .*chunk 'IDAT'"):
            decode_image(overwritten(encoded, seed, length=1 + seed), "a.png")
    palette = encode(Image.fromarray(NOISE).convert("P"), "PNG")
    start = palette.index(b"PLTE") + 10
    with pytest.raises(UserError, match="chunk 'PLTE'"):
        decode_image(palette[:start] + b"abc" + palette[start + 3 :], "a.png")
    assert capfd.readouterr() == ("", "")


def test_a_png_whose_data_is_short_is_refused():
    encoded = encode(NOISE, "PNG")
    start = encoded.index(b"IDAT") - 4
    cut = chunk(b"IDAT", zlib.compress(bytes(99)))
    with pytest.raises(UserError, match="not an image that OpenCV can decode, or a damaged one"):
        decode_image(encoded[:start] + cut + chunk(b"IEND", b""), "a.png")


def test_a_colour_profile_does_not_make_the_decoder_talk(capfd):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey = NOISE[..., 0]
    image = decode_image(encode(grey, "PNG", icc_profile=profile), "a.png")
    np.testing.assert_array_equal(image, np.repeat(grey[..., None], 3, axis=2))
    assert capfd.readouterr() == ("", "")


GOOD = JPEGS["4:2:0"]
SCAN = GOOD.index(b"\xff\xda")
FRAME = GOOD.index(b"\xff\xc0")
JFIF = GOOD.index(b"JFIF\0")
ADOBE = b"\xff\xee" + struct.pack(">H", 14) + b"Adobe" + bytes([0, 100, 0, 0, 0, 0, 7])
# What makes libjpeg warn about files that are good to the last pixel.
ODD = {
    "an unknown JFIF revision": GOOD[: JFIF + 5] + b"\3\0" + GOOD[JFIF + 7 :],
    "an unknown Adobe transformation": GOOD[:2] + ADOBE + GOOD[JFIF + 14 :],
    "bytes between segments": GOOD[:FRAME] + b"\0\1\2" + GOOD[FRAME:],
    "many bytes between segments": GOOD[:FRAME] + b"odd" * 50 + GOOD[FRAME:],
    "odd parameters of the scan": GOOD[: SCAN + 11] + bytes(3) + GOOD[SCAN + 14 :],
    "bytes before the end": GOOD[:-2] + b"\1\2\3\4" + GOOD[-2:],
    "zeros before the end": GOOD[:-2] + bytes(5000) + GOOD[-2:],
    "two oddities": GOOD[: JFIF + 5] + b"\3\0" + GOOD[JFIF + 7 : -2] + bytes(99) + GOOD[-2:],
}


@pytest.mark.parametrize("oddity", ODD)
def test_odd_but_good_jpegs_are_good_and_not_talked_about(oddity, capfd):
    encoded = ODD[oddity]
    image = decode_image(encoded, "a.jpg")
    assert capfd.readouterr() == ("", "")
    np.testing.assert_array_equal(image, opencv(encoded))
    np.testing.assert_array_equal(image, opencv(GOOD))
    assert image_hw(encoded) == (60, 80)
    capfd.readouterr()


@pytest.mark.parametrize("oddity", ["an unknown JFIF revision", "many bytes between segments"])
def test_an_odd_header_does_not_hide_damage(oddity):
    assert len(refusals(ODD[oddity])) >= 17


def test_a_file_of_unusual_sampling_is_left_to_opencv():
    # One block of each component in a row: how they are sampled matters to the size alone.
    encoded = bytearray(jpeg(SMOOTH[:16, :16], subsampling=0))
    frame = encoded.index(b"\xff\xc0")
    encoded[frame + 14], encoded[frame + 17] = 0x12, 0x21
    expected = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decode_image(bytes(encoded), "a.jpg"), expected[..., ::-1])


def test_the_first_of_several_exif_blocks_counts():
    def block(orientation):
        tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
        exif = b"Exif\0\0" + tiff
        return b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif

    for first, second in ((1, 6), (6, 1), (8, 3), (2, 7)):
        encoded = GOOD[:2] + block(first) + block(second) + GOOD[2:]
        image = decode_image(encoded, "a.jpg")
        np.testing.assert_array_equal(image, opencv(encoded))
        assert image_hw(encoded) == image.shape[:2]


def test_real_photographs_have_the_pixels_that_opencv_gives(shared):
    paths = sorted((shared / "data/coco90/images").glob("*.jpg"))
    paths += sorted((shared / "data/bccd/val").glob("*.jpg"))[:20]
    assert len(paths) == 110
    for path in paths:
        encoded = path.read_bytes()
        np.testing.assert_array_equal(decode_image(encoded, path.name), opencv(encoded))
