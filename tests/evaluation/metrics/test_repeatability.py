import numpy as np
import pytest

from evaluation.metrics.mma import matching_errors
from evaluation.metrics.repeatability import (
    CELLS,
    coverage,
    equal_budget,
    localisation_error,
    matching_score,
    overlap,
    repeatability,
)
from r2d2.geometry import apply_homography, translation

# Not square, and the homography treats x and y differently, so that a swapped axis is noticed.
SIZE = WIDTH, HEIGHT = 640, 360
TRUTH = np.array([[0.9, 0.15, 20.0], [-0.1, 1.1, -8.0], [2e-4, -3e-4, 1.0]])
NOTHING = np.empty((0, 2))


def lattice():
    """208 points 40 px apart, 20 px from the border: nothing is near by chance."""
    x, y = np.meshgrid(np.arange(20, WIDTH, 40), np.arange(20, HEIGHT - 20, 25))
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64)


def scored(keypoints1, keypoints2, homography=None, size1=SIZE, size2=SIZE):
    return overlap(keypoints1, keypoints2, np.eye(3) if homography is None else homography, size1, size2)


def in_order(count):
    return np.stack([np.arange(count), np.arange(count)], axis=1)


# Repeatability and localisation


def test_shifted_by_two_pixels_nothing_is_repeated_at_one_and_all_at_three():
    pair = scored(lattice(), lattice() + np.array([2, 0]))
    assert repeatability(pair).tolist() == [0, 1]
    assert localisation_error(pair) == 2


@pytest.mark.parametrize(("shift", "shares"), [(1, [1, 1]), (1.01, [0, 1]), (3, [0, 1]), (3.01, [0, 0])])
def test_thresholds_are_inclusive(shift, shares):
    assert repeatability(scored(lattice(), lattice() + np.array([0, shift]))).tolist() == shares


@pytest.mark.parametrize("factor", [1, -1, 1e-3])
def test_a_known_homography_between_images_that_are_not_square(factor):
    second = apply_homography(TRUTH, lattice())
    pair = scored(lattice(), second, factor * TRUTH)
    inside = ((second >= -0.5) & (second <= np.array(SIZE) - 0.5)).all(axis=1)
    assert 0.5 < inside.mean() < 1
    np.testing.assert_array_equal(pair.visible1, inside)
    assert pair.visible2.all()
    np.testing.assert_allclose(pair.distances1[inside], 0, atol=1e-9)
    np.testing.assert_allclose(pair.distances2, 0, atol=1e-9)
    assert np.isinf(pair.distances1[~inside]).all()
    assert repeatability(pair).tolist() == [1, 1]


def test_more_columns_than_x_and_y_and_single_precision():
    first = np.hstack([lattice(), np.full((len(lattice()), 1), 32.0)]).astype(np.float32)
    assert repeatability(scored(first, first)).tolist() == [1, 1]


def test_each_image_is_asked_about_its_own_keypoints():
    # Of four keypoints of image 1 one is in image 2, which has no other: (1/4 + 1) / 2.
    first = np.array([[50.0, 50], [100, 50], [150, 50], [200, 50]])
    pair = scored(first, first[:1] + 0.5)
    np.testing.assert_allclose(repeatability(pair), (1 / 4 + 1) / 2)
    assert localisation_error(pair) == pytest.approx(np.sqrt(0.5))


def test_distances_are_measured_where_the_keypoint_is_mapped_to():
    # Image 2 is twice as large: 2 px there are 1 px in image 1.
    pair = scored(
        np.array([[50.0, 50]]),
        np.array([[102.0, 100]]),
        np.diag([2.0, 2, 1]),
        size2=(2 * WIDTH, 2 * HEIGHT),
    )
    assert (pair.distances1.tolist(), pair.distances2.tolist()) == ([2], [1])
    assert repeatability(pair).tolist() == [0.5, 1]
    assert localisation_error(pair) == 1.5


def test_keypoints_that_only_one_image_shows_are_not_asked_for():
    # Image 2 begins 320 px further right: half of image 1's keypoints and half of image 2's are in both.
    first = np.array([[100.0, 50], [400, 50]])
    second = np.array([[80.0, 50], [500, 50]])
    pair = scored(first, second, translation(-320, 0))
    assert (pair.visible1.tolist(), pair.visible2.tolist()) == ([False, True], [True, False])
    assert repeatability(pair).tolist() == [1, 1]


def test_the_sizes_of_both_images_count():
    corner = np.array([[30.0, 10]])
    assert scored(corner, corner, size2=(31, 11)).visible1.all()
    assert not scored(corner, corner, size2=(30, 11)).visible1.any()
    assert not scored(corner, corner, size2=(31, 10)).visible1.any()
    assert not scored(corner, corner, size1=(30, 11)).visible2.any()


@pytest.mark.parametrize(
    ("first", "second", "homography"),
    [
        pytest.param(NOTHING, NOTHING, np.eye(3), id="no keypoints"),
        pytest.param(lattice(), NOTHING, np.eye(3), id="none in image 2"),
        pytest.param(NOTHING, lattice(), np.eye(3), id="none in image 1"),
        pytest.param(lattice(), lattice(), translation(1000, 0), id="all outside the other image"),
        pytest.param(lattice()[:1], lattice()[-1:], np.eye(3), id="one each, far apart"),
    ],
)
def test_where_nothing_is_found_again(first, second, homography):
    pair = scored(first, second, homography)
    assert repeatability(pair).tolist() == [0, 0]
    assert np.isnan(localisation_error(pair))
    matches = in_order(min(len(first), len(second)))
    errors = matching_errors(first, second, matches, homography)
    assert matching_score(pair, matches, errors) == 0


def test_behind_the_horizon_nothing_is_visible():
    # The horizon is x = 400 of image 1; what lies beyond would come back mirrored.
    homography = np.array([[1.0, 0, 0], [0, 1, 0], [-1 / 400, 0, 1]])
    pair = scored(np.array([[200.0, 50], [500, 50]]), np.array([[400.0, 100]]), homography)
    assert pair.visible1.tolist() == [True, False]


@pytest.mark.parametrize("factor", [1, -1])
def test_the_way_back_keeps_to_the_side_of_the_horizon_that_image_one_shows(factor):
    # Image 1 shows a floor from above, image 2 from eye level: its horizon is y = 100, with the floor below
    # and the pixel (0, 0) above it.
    homography = factor * np.array([[1000.0, 0, 0], [0, 100, 10000], [0, 1, 50]])
    assert np.linalg.inv(homography)[2, 2] * homography[2, 2] < 0
    first = lattice()[lattice()[:, 0] < 60]
    second = apply_homography(homography, first)
    assert (second[:, 1] > 100).all()
    sky = np.array([[100.0, 50]])
    pair = scored(first, np.concatenate([second, sky]), homography, size2=(1000, 1000))
    assert pair.visible1.all()
    assert pair.visible2.tolist() == [True] * len(second) + [False]
    np.testing.assert_allclose(pair.distances2[:-1], 0, atol=1e-9)


def test_the_same_keypoints_give_the_same_numbers():
    rng = np.random.default_rng(0)
    first, second = rng.uniform([0, 0], SIZE, size=(2, 500, 2))
    pair, again = scored(first, second, TRUTH), scored(first, second, TRUTH)
    np.testing.assert_array_equal(pair.distances1, again.distances1)
    np.testing.assert_array_equal(repeatability(pair), repeatability(again))


def test_nearest_is_what_all_distances_say():
    rng = np.random.default_rng(0)
    first, second = rng.uniform([0, 0], SIZE, size=(2, 300, 2))
    pair = scored(first, second)
    distances = np.linalg.norm(first[:, None] - second, axis=2)
    np.testing.assert_allclose(pair.distances1, np.where(pair.visible1, distances.min(axis=1), np.inf))
    np.testing.assert_allclose(pair.distances2, np.where(pair.visible2, distances.min(axis=0), np.inf))


def test_an_equal_budget_keeps_the_best_of_both():
    first, second = np.arange(20.0).reshape(10, 2), np.arange(12.0).reshape(6, 2)
    assert [len(kept) for kept in equal_budget(first, second)] == [6, 6]
    assert [len(kept) for kept in equal_budget(first, second, 4)] == [4, 4]
    assert [len(kept) for kept in equal_budget(first, second, 100)] == [6, 6]
    np.testing.assert_array_equal(equal_budget(first, second, 4)[0], first[:4])


# Matching score


def test_matching_score_of_a_shift_by_two_pixels():
    first, second = lattice(), lattice() + np.array([2, 0])
    matches = in_order(len(first))
    pair = scored(first, second)
    assert matching_score(pair, matches, matching_errors(first, second, matches, np.eye(3))) == 1
    assert matching_score(pair, matches, np.full(len(first), 3.01)) == 0
    assert matching_score(pair, matches, np.full(len(first), 3.0)) == 1


def test_matching_score_counts_keypoints_that_are_not_matched():
    # 4 keypoints in image 1, 2 in image 2, one correct match: (1/4 + 1/2) / 2.
    first = np.array([[50.0, 50], [100, 50], [150, 50], [200, 50]])
    second = np.array([[150.0, 50], [300, 300]])
    matches = np.array([[2, 0], [3, 1]])
    errors = matching_errors(first, second, matches, np.eye(3))
    assert matching_score(scored(first, second), matches, errors) == pytest.approx((1 / 4 + 1 / 2) / 2)


def test_matching_score_asks_only_for_what_both_images_show():
    first = np.array([[100.0, 50], [400, 50]])
    second = np.array([[80.0, 50], [500, 50]])
    matches = np.array([[1, 0]])
    assert matching_score(scored(first, second, translation(-320, 0)), matches, np.array([0.0])) == 1


def test_one_correct_match_at_the_border_is_no_share_above_one():
    # The keypoint of image 1 comes to lie 1 px outside image 2, its match just inside.
    first, second = np.array([[10.0, 50]]), np.array([[0.0, 50]])
    homography = translation(-11.5, 0)
    matches = in_order(1)
    errors = matching_errors(first, second, matches, homography)
    assert errors[0] <= 3
    pair = scored(first, second, homography)
    assert (pair.visible1.tolist(), pair.visible2.tolist()) == ([False], [True])
    assert matching_score(pair, matches, errors) == 0.5


# Coverage


def test_one_keypoint_covers_one_cell():
    assert coverage(NOTHING, SIZE) == 0
    assert coverage(np.array([[100.0, 50]]), SIZE) == 1 / CELLS**2
    assert coverage(np.array([[100.0, 50], [100, 50], [101, 50]]), SIZE) == 1 / CELLS**2


def test_a_keypoint_in_each_cell_covers_the_image():
    # Cells of 20 x 11.25 px: centres in an image that is not square.
    x, y = np.meshgrid((np.arange(CELLS) + 0.5) * 20 - 0.5, (np.arange(CELLS) + 0.5) * 11.25 - 0.5)
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    assert coverage(centres, SIZE) == 1
    assert coverage(centres[: CELLS**2 // 2], SIZE) == 0.5


def test_a_row_of_keypoints_covers_a_row_of_cells():
    across = np.stack([np.arange(WIDTH), np.full(WIDTH, 5)], axis=1)
    down = np.stack([np.full(HEIGHT, 5), np.arange(HEIGHT)], axis=1)
    assert coverage(across, SIZE) == coverage(down, SIZE) == 1 / CELLS


def test_cells_begin_at_the_frame_half_a_pixel_before_the_first_centre():
    # Cells are 20 px wide: the first ends at 19.5.
    assert coverage(np.array([[19.4, 50], [19.6, 50]]), SIZE) == 2 / CELLS**2
    assert coverage(np.array([[19.6, 50], [39.4, 50]]), SIZE) == 1 / CELLS**2


def test_border_keypoints_count_in_the_nearest_cell():
    beyond = np.array([[-0.7, -0.7], [0, 0], [639.9, 359.9], [639, 359]])
    assert coverage(beyond, SIZE) == 2 / CELLS**2


def test_random_keypoints_as_many_as_cells_cover_63_percent():
    points = np.random.default_rng(0).uniform([-0.5, -0.5], np.array(SIZE) - 0.5, size=(CELLS**2, 2))
    assert coverage(points, SIZE) == pytest.approx(1 - np.exp(-1), abs=0.03)
