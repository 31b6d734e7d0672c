"""Things lie on a sheet to the pixel, and a colour means the same on all of them."""

import io

import numpy as np
import pytest
from PIL import Image

from evaluation.pictures.sheet import Sheet, heat_map
from evaluation.predictions.images import grey

RED, BLUE = (255, 0, 0), (0, 0, 255)


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_an_image_lies_where_it_was_put():
    sheet, image = Sheet(60, 50, 10), noise(20, 30)
    panel = sheet.image(image, 7, 11, width=30)
    drawn = pixels(sheet.png())
    assert drawn.shape == (50, 60, 3)
    np.testing.assert_array_equal(drawn[11:31, 7:37], image)
    drawn[11:31, 7:37] = 255
    assert (drawn == 255).all()
    assert (panel.right, panel.bottom) == (37, 31)


def test_a_grey_image_is_drawn_at_another_size():
    sheet = Sheet(60, 50, 10)
    panel = sheet.image(np.full((20, 30), 99, np.uint8), 0, 0, width=60)
    assert (panel.width, panel.height, panel.scale) == (60, 40, 2)
    drawn = pixels(sheet.png())
    assert (drawn[:40] == 99).all()
    assert (drawn[40:] == 255).all()


@pytest.mark.parametrize("scale", [1, 3])
def test_a_dot_lies_on_its_pixel(scale):
    sheet = Sheet(120, 120, 10)
    panel = sheet.image(np.zeros((30, 30, 3), np.uint8), 10, 20, width=30 * scale)
    sheet.dots(panel, np.array([[4, 7]]), ["#ff0000"], 5)
    y, x = np.nonzero(pixels(sheet.png())[..., 0] * (pixels(sheet.png())[..., 1] == 0))
    # The middle of pixel (4, 7): of one pixel its own, of three the second.
    assert (x.mean(), y.mean()) == pytest.approx(
        (10 + (4.5 * scale - 0.5), 20 + (7.5 * scale - 0.5)), abs=0.2
    )
    assert 9 <= len(x) <= 37


def test_a_circle_has_its_diameter_and_ends_at_the_edge_of_its_image():
    sheet = Sheet(100, 100, 10)
    panel = sheet.image(np.zeros((40, 40, 3), np.uint8), 10, 10, width=80)
    sheet.circles(panel, np.array([[20, 20], [0, 0]]), np.array([20.0, 30.0]), "#ff0000", 1)
    drawn = pixels(sheet.png())
    outside = drawn.copy()
    outside[10:90, 10:90] = 255
    assert (outside == 255).all()
    x = np.nonzero(drawn[51, 30:90, 0] > 100)[0] + 30
    assert (x.min(), x.max()) == (pytest.approx(31, abs=1), pytest.approx(71, abs=1))


def test_a_line_joins_its_ends():
    sheet = Sheet(40, 40, 10)
    sheet.lines(np.array([[[5, 8], [35, 8]]]), "#0000ff", 1)
    drawn = pixels(sheet.png())
    assert (drawn[8, 7:34, 2] > drawn[8, 7:34, 0] + 100).all()
    assert (drawn[20] == 255).all()


def test_a_text_that_is_too_long_is_cut():
    sheet = Sheet(300, 40, 12)
    whole = sheet.text("a very long caption of an image", 10, 15)
    assert 150 < whole < 250
    assert 60 < sheet.text("a very long caption of an image", 10, 35, room=80) <= 90
    drawn = pixels(sheet.png())
    assert (drawn[20:, 95:] == 255).all()
    assert (drawn[:20, 95:180] < 100).any()


def test_a_legend_shows_its_colours():
    sheet = Sheet(300, 30, 12)
    end = sheet.legend([("#ff0000", "one"), ("#0000ff", "two")], 5, 20)
    drawn = pixels(sheet.png()).reshape(-1, 3)
    assert {RED, BLUE} <= {tuple(colour) for colour in drawn.tolist()}
    assert 60 < end < 150


def test_a_heat_map_grows_lighter_with_the_value_and_shows_the_image():
    image = np.repeat(np.linspace(0, 255, 50).astype(np.uint8)[None, :, None], 3, axis=2).repeat(256, axis=0)
    values = np.arange(256, dtype=np.uint8)[:, None].repeat(50, axis=1)
    lightness = grey(heat_map(image, values)).astype(int)
    assert (np.diff(lightness, axis=0) >= -1).all()
    assert (np.diff(lightness, axis=1) >= -1).all()
    assert (lightness[255] - lightness[0] > 100).all()
    assert (lightness[:, -1] - lightness[:, 0] > 60).all()


def test_the_colour_bar_has_1_at_the_top():
    sheet = Sheet(60, 140, 12)
    sheet.colour_bar(10, 20, 100, 15)
    drawn = pixels(sheet.png())
    middle = np.full((1, 1, 3), 128, np.uint8)
    for row, value in ((20, 255), (119, 0)):
        expected = heat_map(middle, np.array([[value]], np.uint8))[0, 0]
        np.testing.assert_array_equal(drawn[row, 10:25], np.tile(expected, (15, 1)))


def test_a_small_picture_is_small_and_its_colours_are_about_right():
    sheet = Sheet(400, 300, 12)
    smooth = np.linspace(0, 255, 400).astype(np.uint8)[None].repeat(300, axis=0)
    image = np.full((300, 400, 3), 100, np.uint8)
    sheet.image(heat_map(image, smooth), 0, 0, 400)
    whole, small = pixels(sheet.png()), sheet.small_png(20_000, [])
    assert len(small) <= 20_000
    assert np.abs(pixels(small) - whole).mean() < 10


def test_noise_takes_fewer_colours():
    sheet = Sheet(400, 300, 12)
    sheet.image(noise(300, 400), 0, 0, 400)
    limit = 60_000
    assert len(sheet.png()) > 3 * limit
    assert len(sheet.small_png(limit, ["#e69f00"])) <= limit
