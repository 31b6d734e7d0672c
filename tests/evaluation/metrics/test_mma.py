import numpy as np
import pytest

from evaluation.metrics.mma import THRESHOLDS, matching_errors, mma
from r2d2.geometry import apply_homography, translation


def test_reference_pair(golden):
    pair = golden("matching")
    errors = matching_errors(pair["keypoints1"], pair["keypoints2"], pair["matches"], pair["homography_1to2"])
    np.testing.assert_allclose(errors, pair["errors"], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(mma(errors), pair["mma"])


def shares(errors):
    return dict(zip(THRESHOLDS, mma(np.array(errors, dtype=np.float64)), strict=True))


def test_thresholds_are_inclusive():
    share = shares([0, 1, 1.0000001, 3, 20])
    assert (share[1], share[2], share[3], share[15]) == (0.4, 0.6, 0.8, 0.8)


def test_a_pair_without_matches_counts_nothing():
    assert mma(np.empty(0)).tolist() == [0] * 15


def test_shift_by_two_pixels():
    points = np.random.default_rng(0).uniform(20, 80, size=(50, 3)).astype(np.float32)
    matches = np.stack([np.arange(50), np.arange(50)], axis=1)
    share = shares(matching_errors(points, points + np.array([2, 0, 0]), matches, np.eye(3)))
    assert (share[1], share[3]) == (0, 1)


def test_errors_are_measured_in_image_two():
    # Image 2 is twice as large: a miss by one pixel of image 1 is one by two pixels of image 2.
    double = np.diag([2.0, 2.0, 1.0])
    errors = matching_errors(np.array([[10, 5]]), np.array([[22, 10]]), np.array([[0, 0]]), double)
    assert errors.tolist() == [2]


@pytest.mark.parametrize("factor", [1, -1, 1e-3])
def test_the_scale_of_a_homography_does_not_matter(factor):
    homography = np.array([[0.9, 0.1, 5], [-0.1, 1.1, 3], [1e-4, -2e-4, 1]])
    points = np.random.default_rng(0).uniform(0, 200, size=(20, 2))
    matches = np.stack([np.arange(20), np.arange(20)], axis=1)
    truth = apply_homography(homography, points)
    np.testing.assert_allclose(matching_errors(points, truth, matches, factor * homography), 0, atol=1e-9)


def test_behind_the_horizon_nothing_is_right():
    homography = np.array([[1.0, 0, 0], [0, 1, 0], [-0.01, 0, 1]])
    errors = matching_errors(
        np.array([[100.0, 0], [300, 0]]), np.zeros((1, 2)), np.array([[0, 0], [1, 0]]), homography
    )
    assert errors.tolist() == [np.inf, np.inf]
    assert mma(errors).tolist() == [0] * 15


def test_indices_of_matches_are_followed():
    first, second = np.array([[0.0, 0], [5, 5]]), np.array([[9.0, 9], [1, 0], [7, 5]])
    errors = matching_errors(first, second, np.array([[1, 2], [0, 1]]), translation(1, 0))
    assert errors.tolist() == [1, 0]
