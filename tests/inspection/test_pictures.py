import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bifpn_jax.anchors import anchor_grid
from bifpn_jax.errors import UserError
from bifpn_jax.inspection import drawing
from bifpn_jax.inspection.drawing import class_color
from bifpn_jax.inspection.pictures import (
    contact_sheet,
    draw_boxes,
    draw_matches,
    write_image,
    zoom_for,
)
from bifpn_jax.matching import match

GREY = 90
NAMES = ("person", "dining table", "hair drier")


def grey(height, width):
    return np.full((height, width, 3), GREY, np.uint8)


def where_color(picture, label):
    """Pixels of the class's colour, as a mask."""
    return (picture == np.array(class_color(label))[None, None]).all(axis=2)


def frame_only(image, boxes, labels):
    """Boxes with an empty text, whose ground is only a few pixels wide."""
    return draw_boxes(image, np.asarray(boxes), np.asarray(labels), (), captions=[""] * len(boxes))


def test_box_lands_on_its_border_pixels():
    # A line of one pixel: rows 20..59 and columns 30..99 of the image belong to the box.
    picture = draw_boxes(grey(120, 160), np.array([[20, 30, 60, 100]]), np.array([1]), NAMES)
    mask = where_color(picture, 1)
    assert mask[20, 30:100].all()
    assert mask[59, 30:100].all()
    assert mask[20:60, 30].all()
    assert mask[20:60, 99].all()
    assert (picture[21:59, 31:99] == GREY).all()
    assert (picture[60:] == GREY).all()
    assert (picture[20:, 100:] == GREY).all()


def test_line_grows_with_the_image_and_is_centred_on_the_border():
    picture = draw_boxes(grey(1200, 1200), np.array([[300, 300, 900, 900]]), np.array([0]), NAMES)
    line = np.flatnonzero(where_color(picture, 0)[600])
    left = line[line < 600]
    assert len(left) == 5
    assert left.min() < 300 <= left.max()


def test_argument_is_not_modified():
    image, boxes = grey(50, 60), np.array([[5, 5, 40, 40]], np.float32)
    draw_boxes(image, boxes, np.array([0]), NAMES, np.array([0.5]))
    draw_matches(image, np.array([[5, 5, 40, 40]]), np.array([0]), boxes)
    assert (image == GREY).all()
    assert boxes.tolist() == [[5, 5, 40, 40]]


def test_no_boxes_and_padding_leave_the_image_as_it_is():
    image = grey(40, 50)
    assert (draw_boxes(image, np.zeros((0, 4)), np.zeros(0, int), NAMES) == image).all()
    padded = draw_boxes(image, np.zeros((3, 4)), np.full(3, -1), NAMES, np.zeros(3))
    assert (padded == image).all()


@pytest.mark.parametrize(
    "box",
    [[-50, -5, -10, 20], [10, 60, 20, 70], [0, 50, 40, 60], [np.nan, 0, 5, 5], [0, 0, np.inf, 9]],
)
def test_boxes_outside_or_not_finite_are_left_out(box):
    picture = draw_boxes(grey(40, 50), np.array([box], np.float32), np.array([0]), NAMES)
    assert (picture == GREY).all()


def test_box_partly_outside_is_cut_at_the_edge():
    picture = frame_only(grey(100, 100), [[-30, 20, 200, 60]], [0])
    mask = where_color(picture, 0)
    assert mask[0, 20:60].all()
    assert mask[99, 20:60].all()
    assert mask[:, 20].all()
    assert mask[:, 59].all()


@pytest.mark.parametrize("box", [[10, 12, 11, 13], [10.2, 12.3, 10.4, 12.6], [10, 12, 10, 12]])
def test_box_of_a_pixel_is_visible(box):
    assert where_color(frame_only(grey(40, 50), [box], [2]), 2)[10, 12]


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    seed=st.integers(0, 2**32 - 1),
    number=st.integers(0, 12),
    zoom=st.integers(1, 3),
)
def test_any_boxes_on_any_image(height, width, seed, number, zoom):
    rng = np.random.default_rng(seed)
    boxes = np.sort(rng.uniform(-0.5, 1.5, (number, 2, 2)) * (height, width), axis=1)
    labels = rng.integers(-1, 3, number)
    picture = draw_boxes(
        grey(height, width), boxes.reshape(-1, 4), labels, NAMES, rng.random(number), zoom=zoom
    )
    assert picture.shape == (zoom * height, zoom * width, 3)
    assert picture.dtype == np.uint8


@pytest.mark.parametrize(
    "corners", [(0, 0, 20, 20), (0, 280, 30, 300), (180, 0, 200, 30), (190, 290, 200, 300)]
)
@pytest.mark.parametrize("text", ["person 0.87", "a class with a name too long for any picture"])
def test_caption_stays_inside(corners, text):
    picture = grey(200, 300)
    style = drawing.style_for(picture)
    caption = drawing.make_caption(text, (1, 2, 3), style, picture)
    placed, hidden = drawing.place_caption(caption, corners, [], picture)
    assert hidden == 0
    assert 0 <= placed.top <= 200 - placed.height
    assert 0 <= placed.left <= 300 - placed.width
    assert text.startswith(placed.text)
    drawing.draw_caption(picture, placed, style)
    touched = np.argwhere((picture != GREY).any(axis=2))
    assert touched.min(axis=0).tolist() == [placed.top, placed.left]
    assert (touched.max(axis=0) + 1).tolist() == [
        placed.top + placed.height,
        placed.left + placed.width,
    ]


@pytest.mark.parametrize("hw", [(64, 64), (480, 640), (2000, 3000)])
@pytest.mark.parametrize("label", range(6))
def test_text_is_readable(hw, label):
    """Letters stand inside their ground, in strong contrast to it, in proportion to the image."""
    picture = grey(*hw)
    style = drawing.style_for(picture)
    color = class_color(label)
    caption = drawing.make_caption("Egpy", color, style, picture)
    drawing.draw_caption(picture, caption, style)
    ground = picture[: caption.height, : caption.width].astype(int)
    ink = np.abs(ground - np.array(color)[None, None]).sum(axis=2) > 150
    rows, columns = np.nonzero(ink)
    assert rows.min() >= 1
    assert columns.min() >= 1
    letters = rows.max() + 1 - rows.min()
    assert letters >= max(8, 0.02 * min(hw))
    assert letters < max(0.25 * hw[0], 16)


def test_captions_avoid_each_other():
    boxes = np.array([[100, 100, 200, 200]] * 2, np.float32)
    picture = draw_boxes(grey(400, 400), boxes, np.array([0, 1]), NAMES)
    first, second = where_color(picture, 0), where_color(picture, 1)
    assert first[80:99].sum() > 300  # above the box
    assert second.sum() > 300  # elsewhere


def test_caption_without_room_is_left_out():
    boxes = np.array([[8, 8, 16, 16]] * 30, np.float32)
    image = grey(64, 64)
    labels = np.zeros(30, int)
    crowded = draw_boxes(image, boxes, labels, NAMES, captions=[str(i) * 9 for i in range(30)])
    assert (crowded == GREY).all(axis=2).any()


def test_first_box_lies_on_top():
    boxes = np.array([[10, 10, 50, 50]] * 2, np.float32)
    picture = frame_only(grey(100, 100), boxes, [0, 1])
    assert where_color(picture, 0)[20:40, 49].all()


def test_zoom():
    image = np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3)
    picture = draw_boxes(image, np.array([[10, 5, 20, 25]]), np.array([0]), NAMES, zoom=8)
    assert picture.shape == (320, 240, 3)
    mask = where_color(picture, 0)
    assert mask[80:160, 40].all()
    assert mask[159, 40:200].all()
    assert (picture[200:] == image.repeat(8, 0).repeat(8, 1)[200:]).all()


@pytest.mark.parametrize(
    ("hw", "factor"),
    [((64, 64), 8), ((100, 60), 5), ((512, 300), 1), ((900, 40), 1), ((1, 1), 512)],
)
def test_zoom_for(hw, factor):
    assert zoom_for(grey(*hw)) == factor


def test_colors_are_stable_and_apart():
    assert class_color(0) == (51, 255, 71)
    colors = np.array([class_color(label) for label in range(90)], float)
    distance = np.linalg.norm(colors[:, None] - colors[None, :], axis=2) + 1e9 * np.eye(90)
    assert distance[:20, :20].min() > 60
    assert distance.min() > 5


def test_matches_are_drawn_in_the_color_of_their_box():
    anchors = np.array([[20, 20, 60, 60], [120, 120, 180, 180], [0, 0, 10, 10]], np.float32)
    boxes = np.array([[22, 22, 58, 58], [124, 124, 176, 176], [0, 0, 0, 0]], np.float32)
    picture = draw_matches(grey(200, 200), anchors, np.array([0, 1, -1]), boxes)
    dark = GREY // 2
    assert where_color(picture, 0)[22:58, 57].all()
    assert where_color(picture, 1)[124:176, 175].all()
    blend = 0.4 * dark + 0.6 * np.array(class_color(1))
    np.testing.assert_allclose(picture[179, 150], blend, atol=1)
    assert (picture[0:10, 0:10] == dark).all()  # neither background anchors nor padding


def test_matches_of_a_real_assignment():
    anchors = anchor_grid((128, 128))
    boxes = np.array([[10, 10, 60, 70], [80, 80, 84, 84], [0, 0, 0, 0]], np.float32)
    targets = match(anchors, boxes, np.array([0, 1, -1], np.int32))
    picture = draw_matches(grey(128, 128), anchors, targets.matched_box, boxes, zoom=4)
    assert picture.shape == (512, 512, 3)
    assert where_color(picture, 0).sum() > 400
    assert where_color(picture, 1).any()
    assert not where_color(picture, 2).any()


def test_matches_of_an_empty_image():
    anchors = anchor_grid((64, 64))
    nothing = np.full(len(anchors), -1)
    picture = draw_matches(grey(64, 64), anchors, nothing, np.zeros((0, 4), np.float32))
    assert (picture == GREY // 2).all()


def test_contact_sheet():
    images = [np.full((h, w, 3), i + 100, np.uint8) for i, (h, w) in enumerate([(20, 30)] * 5)]
    images[3] = np.full((200, 100, 3), 103, np.uint8)
    sheet = contact_sheet(images, columns=2, cell=50)
    assert sheet.shape == (3 * (50 + 4) + 4, 2 * (30 + 4) + 4, 3)
    assert (sheet[4:24, 4:34] == 100).all()
    assert (sheet[4:24, 38:68] == 101).all()
    assert (sheet[58:108, 38:63] == 103).all()
    assert (sheet[112:132, 4:34] == 104).all()
    assert sum((sheet == 100 + i).all(axis=2).sum() for i in range(5)) == 4 * 600 + 50 * 25
    assert contact_sheet(images[:1], columns=8).shape == (28, 38, 3)


def test_write_image(tmp_path):
    image = grey(6, 7)
    image[..., 0] = 200  # red
    path = tmp_path / "new" / "picture.png"
    write_image(path, image)
    assert (cv2.imread(str(path))[..., ::-1] == image).all()
    for bad in (tmp_path / "picture.nonsense", path / "below_a_file.png"):
        with pytest.raises(UserError, match="cannot write the picture"):
            write_image(bad, image)


def test_a_dashed_frame_has_gaps():
    box = np.array([[20, 20, 180, 180]])
    draw = {"captions": [""], "names": ()}
    whole = where_color(draw_boxes(grey(200, 200), box, np.array([0]), **draw), 0)
    dashed = where_color(draw_boxes(grey(200, 200), box, np.array([0]), dashed=[True], **draw), 0)
    side = dashed[179, 20:180]
    assert whole[179, 20:180].all()
    assert 0.4 < side.mean() < 0.6
    assert 10 < np.count_nonzero(np.diff(side.astype(int))) < 60
    assert not (dashed & ~whole).any()
    solid = draw_boxes(grey(200, 200), box, np.array([0]), dashed=[False], **draw)
    assert (where_color(solid, 0) == whole).all()


@pytest.mark.parametrize("text", ["Käfer", "Жук (crowd)", "猫", "É" * 200])
def test_captions_in_other_alphabets_stay_inside(text):
    picture = grey(200, 300)
    style = drawing.style_for(picture)
    caption = drawing.make_caption(text, (1, 2, 3), style, picture)
    placed, _ = drawing.place_caption(caption, (90, 90, 120, 120), [], picture)
    drawing.draw_caption(picture, placed, style)
    touched = np.argwhere((picture != GREY).any(axis=2))
    assert touched.min(axis=0).tolist() == [placed.top, placed.left]
    assert (touched.max(axis=0) < [placed.top + placed.height, placed.left + placed.width]).all()
    ink = np.argwhere((picture > 150).all(axis=2))
    assert len(ink) > 5
    assert ink[:, 1].min() > placed.left


def test_captions_in_other_alphabets_differ():
    draw = [
        draw_boxes(grey(200, 300), np.array([[50, 50, 150, 250]]), np.array([0]), [name])
        for name in ("Жук", "Лук", "ä", "ö")
    ]
    assert len({picture.tobytes() for picture in draw}) == 4


def test_the_number_of_anchors_and_a_low_overlap():
    boxes = np.array([[20, 20, 60, 60], [120, 120, 140, 140]], np.float32)
    anchors = np.array([[20, 20, 60, 60], [100, 100, 160, 160]], np.float32)
    matched = np.array([0, 1])

    def draw(threshold):
        return draw_matches(grey(200, 200), anchors, matched, boxes, iou_threshold=threshold)

    plain, low = draw(None), draw(0.5)
    assert (plain == draw(0.1)).all()  # 20² / 60² = 0.11
    differs = np.argwhere((plain != low).any(axis=2))
    assert (differs.min(axis=0) >= 90).all()  # only at the second box
    assert len(differs) > 50


def test_contact_sheet_with_texts():
    images = [grey(100, 200), grey(50, 60), grey(10, 10)]
    captions = ["first.png\n3 boxes", "x" * 500, "写真"]
    plain = contact_sheet(images, columns=2)
    sheet = contact_sheet(images, columns=2, captions=captions, title="annotated: " + "what " * 60)
    assert sheet.shape[0] > plain.shape[0] + 80
    is_image = (sheet == GREY).all(axis=2)
    assert is_image.sum() >= 100 * 200 + 50 * 60 + 10 * 10
    rows = np.flatnonzero(is_image.any(axis=1))
    above = sheet[: rows[0]]
    assert (above == 255).all(axis=2).sum() > 100  # the title
    assert (above == 215).all(axis=2).sum() > 50  # the names
    left, right = sheet[: rows[0], : 200 // 2], sheet[:, -4:]
    assert (left > 150).any()
    assert not (right > 150).any()  # long names are cut


def test_a_contact_sheet_of_one_small_image_has_room_for_its_name():
    sheet = contact_sheet([grey(10, 10)], 3, captions=["photos_of_2024/frame_000123.png"])
    assert sheet.shape[1] >= 300
    assert (sheet == GREY).all(axis=2).sum() >= 100
