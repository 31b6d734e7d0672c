"""What is drawn about a pair, and the homographies that follow."""

from dataclasses import replace

import numpy as np
import pytest

from r2d2.config import DataConfig
from r2d2.data.pairs.plan import BOTTOM, LEFT, RIGHT, TOP, draw_plan, resized, tilt_homography
from r2d2.geometry import apply_homography, frame_corners, homography_from_points

PHOTO = (640, 480)
CORNERS = {TOP: (0, 1), RIGHT: (1, 2), BOTTOM: (2, 3), LEFT: (3, 0)}


def plans(config, count=300, photo=PHOTO):
    return [draw_plan(photo, config, np.random.default_rng([7, k])) for k in range(count)]


@pytest.mark.parametrize("side", CORNERS)
def test_a_tilt_lengthens_one_side_at_both_ends(side):
    frame = frame_corners(*PHOTO)
    first, second = CORNERS[side]
    along = (frame[second] - frame[first]) / np.abs(frame[second] - frame[first]).max()
    trapezium = frame.copy()
    trapezium[first] -= 50 * along
    trapezium[second] += 50 * along
    tilt = tilt_homography(PHOTO, side, 50)
    np.testing.assert_allclose(apply_homography(tilt, frame), trapezium, atol=1e-9)
    expected = homography_from_points(frame, trapezium)
    np.testing.assert_allclose(tilt / tilt[2, 2], expected, atol=1e-9)


def test_no_tilt_is_the_identity():
    np.testing.assert_allclose(tilt_homography(PHOTO, TOP, 0), np.eye(3), atol=1e-12)
    for plan in plans(DataConfig(tilt=0.0), 20):
        stretch = plan.homography_1to2 / plan.homography_1to2[2, 2]
        np.testing.assert_allclose(stretch[2], [0, 0, 1], atol=1e-12)


@pytest.mark.parametrize(("photo", "expected"), [((640, 480), (400, 300)), ((480, 640), (300, 400))])
def test_resizing_sets_the_shorter_side(photo, expected):
    assert resized(photo, 300) == expected


def test_shorter_sides_are_log_uniform():
    for size in ("image1", "image2"):
        logs = np.log2([min(getattr(plan, size)) for plan in plans(DataConfig(), 2000)])
        assert logs.min() >= 8
        assert logs.max() <= 10
        shares, _ = np.histogram(logs, bins=8, range=(8, 10))
        np.testing.assert_allclose(shares / 2000, 1 / 8, atol=0.03)


def test_the_whole_of_image_2_shows_the_photo():
    for plan in plans(DataConfig(tilt=1.0), 100):
        corners = apply_homography(plan.image2_to_photo, frame_corners(*plan.image2))
        assert (corners > -0.5 - 1e-6).all()
        assert (corners < np.array(PHOTO) - 0.5 + 1e-6).all()


def test_a_plan_finds_windows_where_most_tries_are_invalid():
    """After a strong tilt few pixels of image 1 have a partner in image 2: five tries lose some pairs."""
    assert all(plan.found for plan in plans(DataConfig(tilt=2.0), 300))


def test_the_flow_leads_to_the_same_place_of_the_photo():
    points = np.random.default_rng(0).uniform(0, 191, (50, 2))
    for plan in plans(DataConfig(), 100):
        there = apply_homography(plan.crop2_to_photo, apply_homography(plan.crop1_to_crop2, points))
        np.testing.assert_allclose(there, apply_homography(plan.crop1_to_photo, points), atol=1e-6)


def test_almost_every_plan_finds_windows_with_much_in_common():
    found = [plan for plan in plans(DataConfig(), 1000) if plan.found]
    assert len(found) >= 990
    shares = []
    grid = np.stack(np.meshgrid(np.arange(0, 192, 8), np.arange(0, 192, 8)), -1).reshape(-1, 2)
    for plan in found:
        partner = apply_homography(plan.crop1_to_crop2, grid)
        shares.append(((partner >= 0) & (partner <= 191)).all(axis=1).mean())
    assert 0.83 < np.mean(shares) < 0.93


@pytest.mark.parametrize("setting", ["tilt", "noise", "brightness", "hue"])
def test_settings_change_nothing_that_they_do_not_name(setting):
    usual, other = DataConfig(), replace(DataConfig(), **{setting: 0.0})
    for plan1, plan2 in zip(plans(usual, 10), plans(other, 10), strict=True):
        assert plan1.image1 == plan2.image1
        assert plan1.image2 == plan2.image2
        assert plan1.jitter.order == plan2.jitter.order
        assert plan1.jitter.factors["contrast"] == plan2.jitter.factors["contrast"]


def test_the_number_of_draws_does_not_depend_on_what_they_say():
    tails = set()
    for config in (DataConfig(), DataConfig(tilt=0.0, brightness=0.0), DataConfig(max_shorter_side=300)):
        rng = np.random.default_rng(5)
        draw_plan(PHOTO, config, rng)
        tails.add(rng.random())
    assert len(tails) == 1
