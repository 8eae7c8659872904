import numpy as np
import pytest

from bifpn_jax.inspection.lettering import (
    ASCENT,
    can_write,
    line_height,
    shorten,
    text_width,
    wrap,
    writable,
    write_line,
)


def written(text, size=20):
    picture = np.zeros((40, 400, 3), np.uint8)
    write_line(picture, text, 28, 5, size, (255, 128, 0))
    return picture


@pytest.mark.parametrize("text", ["frame_0001.png", "Straße", "ñandú", "Жук", "ελιά", "≥ …"])
def test_what_the_font_has(text):
    assert can_write(text)
    assert writable(text) == text


def test_what_the_font_lacks():
    assert not can_write("写真.png")
    assert not can_write("two\nlines")
    assert writable("写真.png") == "??.png"
    assert (written("写真.png") == written("??.png")).all()


def test_letters_differ_where_names_do():
    assert (written("Жук") != written("Жук"[::-1])).any()
    assert (written("ä") != written("a")).any()


@pytest.mark.parametrize("size", [12, 17, 30])
def test_letters_stay_in_their_place(size):
    picture = np.zeros((line_height(size), 300, 3), np.uint8)
    write_line(picture, "Égp|", round(ASCENT * size), 4, size, (255, 255, 255))
    rows, columns = np.nonzero(picture[..., 0])
    assert rows.max() < line_height(size) - 1
    assert columns.min() >= 3
    assert columns.max() <= 4 + text_width("Égp|", size)


def test_color_and_background():
    picture = np.full((40, 100, 3), 77, np.uint8)
    write_line(picture, "MM", 30, 5, 24, (250, 10, 20))
    assert (picture == [250, 10, 20]).all(axis=2).any()
    assert (picture[0] == 77).all()


@pytest.mark.parametrize("width", [40, 80, 150, 300])
def test_shorten_keeps_both_ends(width):
    name = "photos_of_the_expedition/camera_07_frame_000123456789.png"
    shorter = shorten(name, 15, width)
    assert text_width(shorter, 15) <= width
    begin, _, end = shorter.partition("…")
    assert name.startswith(begin)
    assert end
    assert name.endswith(end)
    assert len(end) >= len(begin)
    # One more character would not fit.
    assert text_width(name[: len(begin) + 2] + "…" + name[-len(end) :], 15) > width - 15


def test_shorten_without_need_or_room():
    assert shorten("a.png", 15, 100) == "a.png"
    assert shorten("a.png", 15, 0) == "…"


def test_wrap():
    text = "the first images of training, as they are annotated"
    lines = wrap(text, 15, 120)
    assert " ".join(lines) == text
    assert len(lines) > 2
    assert all(text_width(line, 15) <= 120 for line in lines)
    assert wrap("", 15, 120) == []
    (only,) = wrap("x" * 100, 15, 120)
    assert "…" in only
