"""Kinds of image files whose header says how their numbers are meant."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from bifpn_jax.data.images.image_decoding import decode_image
from bifpn_jax.errors import UserError

RGB = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
GREY = np.repeat(RGB[..., :1], 3, axis=2)
ALPHA = np.linspace(1, 255, 600).round().astype(np.uint8).reshape(20, 30, 1)
DEEP = RGB.astype(np.uint16) * 257


def tiff(pixels, tags=(), photometric=2, order="<"):
    """An uncompressed TIFF of one strip, written by nothing but this."""
    pixels = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder(order))
    height, width, samples = pixels.shape
    bits = pixels.dtype.itemsize * 8
    fields = {
        256: [width],
        257: [height],
        258: [bits] * samples,
        259: [1],
        262: [photometric],
        273: [0],
        277: [samples],
        278: [height],
        279: [pixels.nbytes],
    } | dict(tags)
    long = (256, 257, 273, 278, 279)
    texts = {t: struct.pack(f"{order}{len(v)}{'IH'[t not in long]}", *v) for t, v in fields.items()}
    place, extra, entries = 8 + 2 + 12 * len(fields) + 4, b"", b""
    for tag, text in texts.items():
        if len(text) > 4:
            texts[tag] = struct.pack(order + "I", place + len(extra))
            extra += text
    texts[273] = struct.pack(order + "I", place + len(extra))
    for tag in sorted(fields):
        kind = 4 if tag in long else 3
        entries += struct.pack(order + "HHI", tag, kind, len(fields[tag]))
        entries += texts[tag].ljust(4, b"\0")
    start = b"II*\0" if order == "<" else b"MM\0*"
    count = struct.pack(order + "IH", 8, len(fields))
    return start + count + entries + bytes(4) + extra + pixels.tobytes()


def multiplied(colours, alpha, white):
    return np.rint(colours * (alpha / white)).astype(colours.dtype)


def close(image, expected, alpha):
    """Equal up to what is lost where colours are stored multiplied by a small alpha."""
    lost = 0.5 + 0.5 * 255 / alpha.astype(float)
    assert (np.abs(image.astype(float) - expected) <= lost + 1).all()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("colours", [RGB, RGB[..., :1]], ids=["colour", "grey"])
def test_associated_alpha_is_divided_out(colours, order):
    photometric = 2 if colours.shape[2] == 3 else 1
    expected = RGB if photometric == 2 else GREY
    stored = np.dstack([multiplied(colours, ALPHA, 255), ALPHA])
    close(decode_image(tiff(stored, {338: [1]}, photometric, order), "a.tif"), expected, ALPHA)
    # 16 bits keep nearly all of the colours.
    deep, alpha = colours.astype(np.uint16) * 257, ALPHA.astype(np.uint16) * 257
    stored = np.dstack([multiplied(deep, alpha, 65535), alpha])
    if photometric == 2:
        for orientation, upright in ((1, RGB), (3, RGB[::-1, ::-1]), (6, np.rot90(RGB, -1))):
            encoded = tiff(stored, {338: [1], 274: [orientation]}, photometric, order)
            difference = decode_image(encoded, "a.tif").astype(int) - upright
            assert np.abs(difference).max() <= 1
    else:  # of these, OpenCV gives no alpha to divide by
        with pytest.raises(UserError, match="not an image that OpenCV can decode"):
            decode_image(tiff(stored, {338: [1]}, photometric, order), "a.tif")


@pytest.mark.parametrize("kind", [0, 2])
def test_any_other_fourth_band_changes_no_colour(kind):
    for colours, alpha in ((RGB, ALPHA), (DEEP, ALPHA.astype(np.uint16) * 257)):
        encoded = tiff(np.dstack([colours, alpha]), {338: [kind]})
        np.testing.assert_array_equal(decode_image(encoded, "a.tif"), RGB)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_colours_under_unassociated_alpha_stay(kind):
    file = io.BytesIO()
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    Image.fromarray(np.dstack([RGB, ALPHA - 1])).save(file, kind, **options)
    np.testing.assert_array_equal(decode_image(file.getvalue(), "image"), RGB)


def test_where_zero_is_white_zero_becomes_white():
    for colours in (RGB, DEEP):
        stored = np.iinfo(colours.dtype).max - colours[..., :1]
        encoded = tiff(stored, photometric=0)
        np.testing.assert_array_equal(decode_image(encoded, "a.tif"), GREY)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_a_tiff_that_states_its_largest_value_is_scaled_from_it(bits):
    white = 2**bits - 1
    stored = np.rint(RGB[..., :1] * (white / 255)).astype(np.uint16)
    encoded = tiff(stored, {281: [white]}, photometric=1)
    np.testing.assert_array_equal(decode_image(encoded, "a.tif"), GREY)
    # The largest value that happens to be in an image is no scale, nor one that is exceeded.
    for largest in (white - 5, white // 16):
        image = decode_image(tiff(stored, {281: [largest]}, photometric=1), "a.tif")
        np.testing.assert_array_equal(image[..., 0], np.rint(stored[..., 0] / 257))


def png(pixels, significant=None):
    encoded = cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes()
    if significant is None:
        return encoded
    data = b"sBIT" + bytes([significant] * (1 if pixels.ndim == 2 else 3))
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    return encoded[:33] + chunk + encoded[33:]


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("pixels", [RGB, RGB[..., 0]], ids=["colour", "grey"])
def test_a_png_whose_samples_were_not_scaled_is_scaled_from_its_significant_bits(bits, pixels):
    few = np.rint(pixels * ((2**bits - 1) / 255)).astype(np.uint16)
    expected = RGB if pixels.ndim == 3 else GREY
    np.testing.assert_array_equal(decode_image(png(few, bits), "a.png"), expected)
    # Without sBIT the samples are what the standard says, and so they are with all bits in use.
    nearly_black = np.rint(few / 257).astype(np.uint8).reshape(20, 30, -1) * np.ones(3, np.uint8)
    np.testing.assert_array_equal(decode_image(png(few), "a.png"), nearly_black)
    scaled = few << (16 - bits) | few >> (2 * bits - 16)
    np.testing.assert_array_equal(decode_image(png(scaled, bits), "a.png"), expected)


def test_a_dark_png_of_scaled_samples_stays_dark():
    dark = (RGB[..., 0].astype(np.uint16) >> 2) << 4  # 12 bits, scaled, below a sixteenth of white
    image = decode_image(png(dark, 12), "a.png")
    np.testing.assert_array_equal(image[..., 0], np.rint(dark / 257))


def pnm(magic, pixels, white, comment=b""):
    height, width = pixels.shape[:2]
    data = pixels.astype(np.uint8 if white < 256 else ">u2").tobytes()
    return magic + b"\n" + comment + b"%d %d\n%d\n" % (width, height, white) + data


def pam(pixels, white):
    height, width, depth = pixels.shape
    head = b"P7\n# a comment\nWIDTH %d\nHEIGHT %d\nDEPTH %d\nMAXVAL %d\nTUPLTYPE X\nENDHDR\n"
    data = pixels.astype(np.uint8 if white < 256 else ">u2").tobytes()
    return head % (width, height, depth, white) + data


@pytest.mark.parametrize("white", [255, 1000, 4095, 65535])
def test_netpbm_files_are_scaled_from_their_white(white):
    scaled = np.rint(RGB * (white / 255)).astype(np.uint16)
    for encoded, expected in (
        (pnm(b"P6", scaled, white), RGB),
        (pnm(b"P6", scaled, white, b"# 1 2\n#\n"), RGB),
        (pnm(b"P5", scaled[..., 0], white), GREY),
        (pam(scaled, white), RGB),
        (pam(np.dstack([scaled, scaled[..., :1]]), white), RGB),
        (pam(scaled[..., :1], white), GREY),
        (pam(scaled[..., :2], white), GREY),
    ):
        image = decode_image(encoded, "a.ppm")
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, expected)
        with pytest.raises(UserError, match=r"damaged inside .its data ends before its pixels do"):
            decode_image(encoded[:-1], "a.ppm")


def test_netpbm_of_fewer_than_8_bits():
    scaled = np.rint(RGB * (7 / 255)).astype(np.uint8)
    expected = np.rint(scaled * (255 / 7)).astype(np.uint8)
    np.testing.assert_array_equal(decode_image(pnm(b"P6", scaled, 7), "a.ppm"), expected)


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 9\n",
            "not an image but a Git LFS pointer to one; fetch the images with 'git lfs pull'",
        ),
        (
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
            "not an image that OpenCV can decode but a HEIC photograph, .*; convert it to JPEG",
        ),
        (tiff((RGB.astype(int) - 128).astype(np.int8), {339: [2, 2, 2]}), "pixels of type int8"),
        (tiff(DEEP.astype(np.int16), {339: [2, 2, 2]}), "pixels of type int16"),
        (tiff(RGB.astype(np.uint32)), "pixels of type uint32"),
        (tiff(RGB.astype(np.float32), {339: [3, 3, 3]}), "pixels of type float32"),
    ],
    ids=["LFS", "HEIC", "int8", "int16", "uint32", "float32"],
)
def test_what_is_no_image_of_8_or_16_bits_is_named(encoded, message):
    with pytest.raises(UserError, match=f"^dir/a.jpg: .*{message}"):
        decode_image(encoded, "dir/a.jpg")


def avif(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "AVIF", quality=95, **options)
    return file.getvalue()


SMOOTH = cv2.resize(RGB[:4, :6], (60, 40), interpolation=cv2.INTER_LINEAR)


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_avif_of_any_depth(bits, tmp_path):
    deep = SMOOTH if bits == 8 else SMOOTH.astype(np.uint16) << (bits - 8)
    options = [cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, 95]
    cv2.imwrite(str(tmp_path / "x.avif"), deep[..., ::-1], options)
    decoded = decode_image((tmp_path / "x.avif").read_bytes(), "x")
    assert np.abs(decoded.astype(int) - SMOOTH).mean() < 5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned(orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    decoded = decode_image(avif(SMOOTH, exif=exif), "x")
    # The turns of EXIF, written out.
    turn = {2: (0, 1), 3: (2, 0), 4: (2, 1), 5: (1, 1), 6: (3, 0), 7: (3, 1), 8: (1, 0)}
    quarters, mirrored = turn.get(orientation, (0, 0))
    expected = np.rot90(SMOOTH, quarters)
    if orientation in (5, 7):
        expected = SMOOTH.transpose(1, 0, 2)
        expected = expected[::-1, ::-1] if orientation == 7 else expected
    elif mirrored:
        expected = expected[:, ::-1]
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).mean() < 5


@pytest.mark.parametrize("bands", [3, 4, 5])
def test_bands_that_are_not_said_to_be_colours_are_refused(bands):
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, bands), np.uint8)
    with pytest.raises(UserError, match=f"a TIFF of {bands} bands that are not said to be RGB"):
        decode_image(tiff(pixels, photometric=1), "x")


@pytest.mark.parametrize("order", "<>")
def test_a_tiff_of_too_many_pixels_is_refused_by_its_tags(order):
    encoded = tiff(RGB, {256: [40000], 257: [50000]}, order=order)
    # The rows of a strip become a second, small height: decoders take the first.
    rows, height = (struct.pack(order + "HH", tag, 4) for tag in (278, 257))
    for content in (encoded, encoded.replace(rows, height)):
        with pytest.raises(UserError, match="its header says 40000x50000 pixels"):
            decode_image(content, "a.tif")


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_the_limit_of_pillow_is_not_the_one_for_tiffs(monkeypatch, compression):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "TIFF", compression=compression)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    np.testing.assert_array_equal(decode_image(file.getvalue(), "a.tif"), RGB)
