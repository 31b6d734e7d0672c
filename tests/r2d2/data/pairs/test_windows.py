"""Two windows that show the same place at the same scale, found without looking at a pixel."""

import numpy as np
import pytest

from r2d2.data.pairs.windows import Window, fallback_windows, find_windows
from r2d2.geometry import apply_homography, frame_corners, resize_homography, translation

IDENTITY = np.eye(3)
MIDDLE = np.array([[0.5, 0.5]])


def test_a_crop_covers_its_window_frame_to_frame():
    window = Window(10, 20, 50, 100)
    corners = apply_homography(window.from_crop(25), frame_corners(25, 25))
    np.testing.assert_allclose(corners, frame_corners(50, 100) + np.array([10, 20]))
    np.testing.assert_allclose(window.to_crop(25) @ window.from_crop(25), IDENTITY, atol=1e-12)


@pytest.mark.parametrize(
    ("scale", "side1", "side2"), [(1.0, 100, 100), (2.0, 100, 200), (0.5, 200, 100), (3.0, 100, 300)]
)
def test_the_window_of_the_finer_image_is_larger_by_the_local_scale(scale, side1, side2):
    size1, size2 = (800, 600), (round(800 * scale), round(600 * scale))
    window1, window2 = find_windows(resize_homography(*size1, *size2), size1, size2, 100, MIDDLE)
    assert window1 == Window(400 - side1 // 2, 300 - side1 // 2, side1, side1)
    assert (window2.width, window2.height) == (side2, side2)


@pytest.mark.parametrize(("scale", "found"), [(0.19, False), (0.21, True), (4.9, True), (5.1, False)])
def test_scales_outside_a_fifth_and_five_are_refused(scale, found):
    size2 = (round(2000 * scale), round(2000 * scale))
    windows = find_windows(resize_homography(2000, 2000, *size2), (2000, 2000), size2, 64, MIDDLE)
    assert (windows is not None) == found


@pytest.mark.parametrize("place", [(0, 0), (0.999, 0), (0, 0.999), (0.999, 0.999)])
def test_windows_are_shifted_into_the_image(place):
    window1, window2 = find_windows(IDENTITY, (300, 200), (300, 200), 100, np.array([place]))
    assert window1 == window2
    assert window1.left in (0, 200)
    assert window1.top in (0, 100)


def test_windows_larger_than_the_image_are_cut_to_it():
    window1, window2 = find_windows(IDENTITY, (300, 80), (300, 80), 100, MIDDLE)
    assert window1 == window2 == Window(100, 0, 100, 80)


def test_a_partner_outside_image_2_is_no_window():
    aside = translation(1000, 0)
    assert find_windows(aside, (300, 200), (300, 200), 100, np.full((5, 2), 0.5)) is None


def test_the_try_of_largest_overlap_wins():
    # Image 2 is the left part of image 1: further right, more of window 1 has no partner.
    draws = np.array([[0.45, 0.5], [0.2, 0.5], [0.4, 0.5]])
    window1, window2 = find_windows(IDENTITY, (300, 200), (150, 200), 100, draws)
    assert (window1.left, window2.left) == (10, 10)


def test_tries_go_on_until_five_are_valid_and_the_sixth_does_not_count():
    # Image 2 is the left half of image 1: a pixel of the right half has no partner.
    invalid, poor, good = [0.9, 0.5], [0.45, 0.5], [0.2, 0.5]
    for tried, left in (([invalid] * 8 + [poor] * 4 + [good], 10), ([invalid] + [poor] * 5 + [good], 85)):
        window1, _ = find_windows(IDENTITY, (300, 200), (150, 200), 100, np.array(tried))
        assert window1.left == left


def test_fallback_windows_lie_in_their_images():
    draws = np.array([[0, 0.999], [0.999, 0]])
    window1, window2 = fallback_windows((300, 200), (80, 400), 100, draws)
    assert window1 == Window(0, 100, 100, 100)
    assert window2 == Window(0, 0, 80, 100)
