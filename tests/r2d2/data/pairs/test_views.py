"""A view shows an image through a homography, at the right place and without aliasing."""

import numpy as np
import pytest
import torch
from PIL import Image

from r2d2.data.pairs.views import least_shrink, thumbnail, view
from r2d2.geometry import apply_homography, frame_corners, resize_homography, translation
from r2d2.warp import homography_aflow

TILT = np.array([[0.9, 0.1, 20.0], [-0.05, 1.0, 15.0], [0.0003, 0.0001, 1.0]])


def ramp(width=200, height=150):
    """Red is x, green is y."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8))


def test_the_identity_shows_the_image():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    np.testing.assert_allclose(
        view(Image.fromarray(pixels), np.eye(3), 64).permute(1, 2, 0), pixels, atol=1e-2
    )


def test_moving_by_whole_pixels_cuts_out():
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    shown = view(Image.fromarray(pixels), translation(30, 17), 64).permute(1, 2, 0)
    np.testing.assert_allclose(shown, pixels[17:81, 30:94], atol=1e-2)


@pytest.mark.parametrize("shrink", [0.4, 0.9, 1.0, 1.15, 1.25, 1.9, 2.5])
def test_views_are_in_the_right_place_at_every_scale(shrink):
    to_pixels = translation(10, 5) @ resize_homography(48, 48, 48 * shrink, 48 * shrink) @ TILT
    to_pixels = to_pixels @ translation(-8, -8)
    shown = view(ramp(), to_pixels, 48)[:2]
    expected = homography_aflow(to_pixels, 48, 48)
    assert expected.min() > 3
    torch.testing.assert_close(shown, expected, atol=0.6, rtol=0)
    bias = (shown - expected).mean(dim=(1, 2)).abs().max()
    assert bias < 0.06


def test_an_upright_enlarged_window_is_seen_as_a_tilted_one_is():
    """The two ways of sampling agree: a turn so small that it moves nothing takes the other way."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    smooth = Image.fromarray(noise).resize((400, 320), Image.Resampling.BICUBIC)
    turn = np.eye(3)
    turn[0, 1] = 1e-9
    for scale in (0.4, 0.7, 1.0):
        window = translation(30.3, 20.7) @ resize_homography(96, 96, 96 * scale, 96 * scale)
        apart = view(smooth, window, 96) - view(smooth, window @ turn, 96)
        assert apart.abs().max() < 2
        assert apart.mean().abs() < 0.05


def test_different_shrinking_in_x_and_y():
    stretch = resize_homography(48, 48, 48 * 4, 48)
    torch.testing.assert_close(
        view(ramp(), stretch, 48)[0], homography_aflow(stretch, 48, 48)[0], atol=0.6, rtol=0
    )


def test_shrinking_is_antialiased_and_enlarging_is_bilinear():
    chequers = np.zeros((192, 192, 3), np.uint8)
    chequers[::2, ::2] = chequers[1::2, 1::2] = 255
    shrunk = view(Image.fromarray(chequers), resize_homography(48, 48, 192, 192), 48)
    assert (shrunk[:, 4:-4, 4:-4] - 127.5).abs().max() < 2
    edge = np.zeros((32, 32, 3), np.uint8)
    edge[:, 16:] = 200
    enlarged = view(Image.fromarray(edge), resize_homography(128, 128, 32, 32), 128)
    np.testing.assert_allclose(enlarged[0, 50, 60:68], [0, 0, 25, 75, 125, 175, 200, 200], atol=1e-2)


def test_outside_the_image_its_border_is_repeated():
    shown = view(ramp(), translation(-20, 0), 64)
    assert (shown[0, :, :20] == 0).all()


def test_a_thumbnail_samples_the_whole_image():
    small = thumbnail(ramp(), np.eye(3), (200, 150), 10)
    np.testing.assert_array_equal(small[0, 0], np.arange(10, 200, 20))
    np.testing.assert_array_equal(small[1, :, 0], np.arange(7, 150, 15))


def test_the_least_shrinking_is_that_of_the_worst_direction_and_corner():
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    assert least_shrink(turn @ resize_homography(10, 10, 30, 20) @ turn, 10) == pytest.approx(2)
    angles = np.linspace(0, 2 * np.pi, 181)
    circle = 0.01 * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    steps = [
        apply_homography(TILT, corner + circle) - apply_homography(TILT, corner)
        for corner in frame_corners(48, 48)
    ]
    assert least_shrink(TILT, 48) == pytest.approx(np.linalg.norm(steps, axis=-1).min() / 0.01, rel=1e-3)
